import json
import logging

import pytest

from immr.train.progress import Display, Progress


def test_a_curves_point_is_the_mean_over_an_epoch_even_after_a_resume():
    progress = Progress()
    progress.advance(8)
    progress.record([1.0, 0.1, 0.0])
    again = Progress(**json.loads(json.dumps(progress.to_dict())))
    assert again == progress and again.photos == 8
    for each in (progress, again):
        each.advance(8)
        each.record([0.3, 0.2, 0.4])
        each.end_epoch(learning_rate=0.01)
    assert again == progress
    assert (progress.epoch, progress.photos, progress.steps) == (1, 0, 0)
    assert progress.curves["loss_query"] == [0.65]
    assert progress.curves["loss"] == [pytest.approx(1.0)]
    assert progress.curves["loss_pair"] == [0.2]


def test_without_a_terminal_each_epoch_logs_its_rate_and_the_time_left(caplog, capsys):
    caplog.set_level(logging.INFO, "immr")
    progress = Progress(epoch=1, curves={"loss": [2.0]})
    with Display(epochs=3, photos_per_epoch=16, start=progress, shown=True) as display:
        for _ in range(2):
            progress.advance(8)
            progress.record([0.5, 0.25, 0.0])
            display.step(progress, 0.75)
        progress.end_epoch(0.01)
        display.epoch(progress)
    (line,) = caplog.messages
    assert line.startswith("epoch 2 of 3: loss 0.7500, ")
    assert "photos/s" in line and line.endswith(" s left")
    assert capsys.readouterr().err == ""


def test_only_the_leading_rank_logs(caplog):
    caplog.set_level(logging.INFO, "immr")
    progress = Progress(epoch=1, curves={"loss": [2.0]})
    with Display(epochs=1, photos_per_epoch=8, start=progress, shown=False) as display:
        display.epoch(progress)
    assert caplog.messages == []
