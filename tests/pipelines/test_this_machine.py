"""Runs on this machine keep the newest logs, and touch no others."""

from __future__ import annotations

import os
from contextlib import ExitStack
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
    with on_this_machine(tmp_path, "refresh"):
        pass
    kept = {file.name for file in logs.iterdir()}
    assert kept >= {*others, *runs[2:]} and not kept & {*runs[:2]}
    assert len(kept - {*others}) == 5


def test_short_runs_delete_nothing_of_a_long_one(tmp_path: Path) -> None:
    """An hourly decision, during a refresh of a day."""
    with ExitStack() as running:
        running.enter_context(on_this_machine(tmp_path, "refresh"))
        [log] = (tmp_path / "logs").iterdir()
        for age in range(8):
            folder = tmp_path / "pipeline" / f"run-{age}"
            folder.mkdir()
            os.utime(folder, (age, age))
            with on_this_machine(tmp_path, "refresh"):
                pass
        assert log.is_file() and (tmp_path / "pipeline" / "run-0").is_dir()
    assert sorted(path.name for path in (tmp_path / "pipeline").glob("run-*")) == [
        "run-3", "run-4", "run-5", "run-6", "run-7",
    ]  # fmt: skip


def test_runs_that_start_together_do_not_delete_each_others_logs_twice(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    for number in range(9):
        (logs / f"pipeline-2026010{number}T000000Z-1.log").symlink_to(logs / "gone")  # as if deleted just now
    with on_this_machine(tmp_path, "refresh"):
        pass
    assert len([log for log in logs.iterdir() if log.is_file()]) == 1  # its own; it did not end at the others
