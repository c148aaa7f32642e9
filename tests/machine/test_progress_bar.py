"""Progress without a terminal: log lines with the time left, and none of a short step."""

import io
import logging
import sys
import time

import pytest

from immr.machine import progress_bar
from immr.machine.progress_bar import ProgressBar, elapsed, with_progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress_bar.time, "monotonic", lambda: now[0])
    return now


def test_a_long_step_logs_its_rate_and_the_time_left(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "immr")
    with ProgressBar("image features", 1200, "pictures") as progress:
        for _ in range(30):
            clock[0] += 0.5
            progress.advance(10)
    assert caplog.messages == [
        "image features: 50 of 1,200 pictures, 20 pictures/s, 58 s left",
        "image features: 260 of 1,200 pictures, 20 pictures/s, 47 s left",
    ]


def test_a_short_step_and_a_process_that_does_not_lead_are_silent(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "immr")
    assert list(with_progress([1, 2, 3], "rendering", "items", 3)) == [1, 2, 3]
    with ProgressBar("index", 3, "documents", shown=False) as progress:
        clock[0] += 60
        progress.advance(2)
    assert caplog.messages == []


def test_without_a_total_only_the_rate_is_shown(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "immr")
    with ProgressBar("checking pictures", 0, "pictures") as progress:
        clock[0] += 4
        progress.advance(8)
    assert caplog.messages == ["checking pictures: 8 pictures, 2 pictures/s"]


def test_before_the_first_unit_there_is_no_time_left(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "immr")
    with ProgressBar("image features", 1200, "pictures", done=300) as progress:
        clock[0] += 4
        progress.advance(0)
    assert caplog.messages == ["image features: 300 of 1,200 pictures"]


def test_work_without_units_logs_how_long_it_has_been_running(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "immr")
    with elapsed("counting clicks"):
        pass
    assert caplog.messages == []
    monkeypatch.setattr(progress_bar, "_FIRST_AFTER_S", 0.0)
    with pytest.raises(ZeroDivisionError), elapsed("counting clicks"):
        while not caplog.messages:
            time.sleep(0.01)
        1 / 0  # noqa: B018
    assert caplog.messages == ["counting clicks: 0 s so far"]


def test_on_a_terminal_the_elapsed_time_is_a_line_that_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(progress_bar, "_FIRST_AFTER_S", 0.0)
    with elapsed("counting clicks"):
        while "0 s so far" not in shown.getvalue():
            time.sleep(0.01)
    assert shown.getvalue().rpartition("so far")[2].strip() == ""
