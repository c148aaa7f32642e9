"""Every picture of a slow, flaky and rate-limited server is there or rejected, although the first run was killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.shop.urls import KINDS, kind_of


def test_a_hundred_items_have_the_shares_of_each_kind() -> None:
    counts = Counter(kind_of(number) for number in range(100))
    assert {kind: counts[kind] for kind in KINDS} == KINDS


@pytest.mark.slow
def test_no_picture_is_lost(tmp_path: Path) -> None:
    file = tmp_path / "urls.json"
    options = ["--items", "200", "--per-second", "100", "--json", str(file)]
    subprocess.run([sys.executable, "-m", "benchmarks.shop.urls", *options], check=True, timeout=600)
    found = json.loads(file.read_text())
    assert found["run"]["command"].startswith("python -m benchmarks.shop.urls --items 200 ")
    assert (found["there"], found["unaccounted"]) == (194, 0)
    assert sum(found["rejected"].values()) == 6
    assert found["answers"]["busy"] == 20 and found["answers"]["lost"] == 10
    assert found["refetched"] < 100
