import json
import logging

import pytest

from immr.train.progress import Display, Progress


def test_an_epoch_is_the_mean_of_its_steps_and_survives_json():
    progress = Progress()
    progress.step(8, [1.0, 0.1])
    again = Progress(**json.loads(json.dumps(progress.to_dict())))
    assert again == progress and again.photos == 8
    for each in (progress, again):
        each.step(8, [0.3, 0.2])
        each.end_epoch(learning_rate=0.01)
    assert again == progress
    assert (progress.epoch, progress.photos, progress.steps) == (1, 0, 0)
    assert progress.curves["loss_query"] == [0.65]
    assert progress.curves["loss"] == [pytest.approx(0.8)]


def test_off_a_terminal_an_epoch_is_a_line_with_rate_and_time_left(caplog, capsys):
    caplog.set_level(logging.INFO, "immr")
    progress = Progress(epoch=1, curves={"loss": [2.0]})
    with Display(epochs=3, photos_per_epoch=16, start=progress, shown=True) as display:
        for _ in range(2):
            progress.step(8, [0.5, 0.25])
            display.step(progress, 0.75)
        progress.end_epoch(0.01)
        display.epoch(progress)
    (line,) = caplog.messages
    assert line.startswith("epoch 2 of 3: loss 0.7500, ")
    assert "photos/s" in line and line.endswith(" s left")
    assert capsys.readouterr().err == ""


def test_ranks_that_do_not_lead_are_silent(caplog):
    caplog.set_level(logging.INFO, "immr")
    progress = Progress(epoch=1, curves={"loss": [2.0]})
    with Display(epochs=1, photos_per_epoch=8, start=progress, shown=False) as display:
        display.epoch(progress)
    assert caplog.messages == []
