"""What is free, and what happens to a step that needs more."""

from __future__ import annotations

from pathlib import Path

import pytest

from immr.errors import CapacityError
from immr.machine import capacity
from immr.machine.capacity import GIB, Need, check, free_disk, free_memory

SHOP = "200,000 items"
MEMINFO = "MemTotal: 24000000 kB\nMemFree: 1000 kB\nMemAvailable: 8388608 kB\n"


def need(memory_gib: float = 0, disk_gib: float = 0) -> Need:
    return Need(memory_gib * GIB, disk_gib * GIB, SHOP, "turn clean_labels off")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 8 GiB of memory and 100 GiB of disk."""
    monkeypatch.setattr(capacity, "free_memory", lambda: 8 * GIB)
    monkeypatch.setattr(capacity, "free_disk", lambda folder: 100 * GIB)


def test_a_step_that_fits_starts(tmp_path: Path) -> None:
    check("govern", need(7.9, 99), tmp_path)


def test_a_step_that_does_not_fit_is_refused_with_the_figures_and_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(CapacityError) as refused:
        check("govern", need(16, 120), tmp_path)
    assert str(refused.value) == (
        "govern of 200,000 items needs about 16.0 GiB of memory, and 8.0 GiB are free; "
        "about 120.0 GiB of disk, and 100.0 GiB are free: turn clean_labels off, or use a larger machine. "
        "To try anyway, set IMMR_TOO_LARGE=warn"
    )


def test_it_can_be_tried_anyway(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check("govern", need(16), tmp_path, "warn")
    assert "needs about 16.0 GiB of memory, and 8.0 GiB are free" in caplog.text


def test_a_small_step_is_tried_even_if_little_memory_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "free_memory", lambda: GIB)
    check("govern", need(1.9), tmp_path)


def test_a_system_that_does_not_say_is_not_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "free_memory", lambda: free_memory(tmp_path, tmp_path / "meminfo"))
    check("govern", need(1e6), tmp_path)


def test_memory_is_the_machines_or_the_containers(tmp_path: Path) -> None:
    meminfo, cgroup = tmp_path / "meminfo", tmp_path / "cgroup"
    meminfo.write_text(MEMINFO)
    assert free_memory(cgroup, meminfo) == 8 * GIB
    cgroup.mkdir()
    for name, content in {
        "max": "max",
        "current": f"{GIB}",
        "stat": f"anon 5\ninactive_file {GIB // 2}",
    }.items():
        (cgroup / f"memory.{name}").write_text(f"{content}\n")
    assert free_memory(cgroup, meminfo) == 8 * GIB
    (cgroup / "memory.max").write_text(f"{4 * GIB}\n")
    assert free_memory(cgroup, meminfo) == 3.5 * GIB  # files that are only cached can be dropped


def test_disk_is_that_of_the_nearest_folder(tmp_path: Path) -> None:
    assert free_disk(tmp_path / "not" / "there") == pytest.approx(free_disk(tmp_path), rel=0.1)


def test_a_containers_limit_counts_as_its_memory(tmp_path: Path) -> None:
    machine = capacity.memory(tmp_path)
    assert machine > GIB // 4
    for limit, memory in ((f"{GIB // 8}\n", GIB // 8), ("max\n", machine), (f"{2**60}\n", machine)):
        (tmp_path / "memory.max").write_text(limit)
        assert capacity.memory(tmp_path) == memory
