import logging

import pytest

from demo.narration import PROGRESS, TASK
from immr.machine import progress_bar
from immr.machine.progress_bar import ProgressBar


def test_the_start_of_a_task_is_recognized() -> None:
    task = TASK.fullmatch("refresh[123] train …\n")
    assert task is not None and task["name"] == "train"


def test_progress_in_a_pipeline_run_moves_the_bar(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress_bar, "_FIRST_AFTER_S", -1.0)  # the first unit is logged
    caplog.set_level(logging.INFO, "immr")
    with ProgressBar("training", 2640, "photos", done=640) as progress:
        progress.advance(640, "loss 0.123, epoch 2 of 4")
        progress.log("epoch 2 of 4: loss 0.1234")
    during, at_its_end = (PROGRESS.search(f"    {message}") for message in caplog.messages)
    assert during is not None and (during["done"], during["total"]) == ("1,280", "2,640")
    assert at_its_end is None


def test_counts_of_kept_rows_do_not_move_the_bar() -> None:
    assert PROGRESS.search("clean: 401 of 486 queries kept") is None
