"""The cores of a container are those of its limit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from immr.machine import cores


@pytest.mark.parametrize(("cpu_max", "expected"), [("50000 100000", 1), ("100000 100000", 1)])
def test_a_limit_below_the_machine_counts(tmp_path: Path, cpu_max: str, expected: int) -> None:
    (tmp_path / "cpu.max").write_text(f"{cpu_max}\n")
    assert cores.usable(tmp_path) == expected


def test_a_cgroup_v1_limit_counts(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("100000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cores.usable(tmp_path) == 1


@pytest.mark.parametrize("cpu_max", ["max 100000", "6400000 100000", None])
def test_without_a_limit_or_with_a_high_one_the_cores_we_may_run_on_count(
    tmp_path: Path, cpu_max: str | None
) -> None:
    if cpu_max:
        (tmp_path / "cpu.max").write_text(f"{cpu_max}\n")
    assert cores.usable(tmp_path) == min(len(os.sched_getaffinity(0)), 64)
