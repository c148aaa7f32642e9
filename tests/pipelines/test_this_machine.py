"""Runs on this machine keep the newest logs, and touch no others."""

from __future__ import annotations

import os
from pathlib import Path

from pipelines.this_machine import on_this_machine


def test_the_logs_of_the_newest_five_runs_are_kept(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    others = ["gateway.log", "pipeline-concept.log", "refresh-concept.log"]
    # written in another time zone: names and ages have different orders
    runs = [f"pipeline-20260101T{hour:02}0000-1.log" for hour in (22, 23, 3, 4, 5, 6)]
    for age, name in enumerate([*others, *runs]):
        (logs / name).touch()
        os.utime(logs / name, (age, age))
    with on_this_machine(tmp_path):
        pass
    kept = {file.name for file in logs.iterdir()}
    assert kept >= {*others, *runs[2:]} and not kept & {*runs[:2]}
    assert len(kept - {*others}) == 5
