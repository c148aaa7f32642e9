"""People see a line per step; the log has everything."""

from __future__ import annotations

import io
import logging

import pytest

from immr.machine import progress_bar
from pipelines.step_lines import StepLines
from tests.support.patience import until

GOVERN = """\
21:02:24.997 - INFO - Running pipeline: \x1b[95m'immr-refresh'\x1b[0m
--------------------------------------------------------------------------------
21:02:25.078 - INFO - Executing task \x1b[96m'govern'\x1b[0m
21:02:25.078 - INFO - Streamed logs:

    [KFP Executor 2026-11-28 21:02:26,353 INFO]: Got executor_input:
    {
        "inputs": {
            "parameterValues": {
                "run": "92738062",
                "recipe": "concept"
    }
    [KFP Executor 2026-11-28 21:02:30,000 INFO]: checking items: 1,280 of 2,640 rows, 31.2 rows/s, 44 s left
    /immr/numpy.py:12: RuntimeWarning: this is slow
      slow()
    81 classes
"""
DONE = "21:03:12.702 - INFO - Task \x1b[96m'govern'\x1b[0m finished with status \x1b[92mSUCCESS\x1b[0m\n"
PACKAGE = "21:03:13.000 - INFO - Executing task 'package-2'\n    ValueError: no disk\n"
FAILED = "21:03:14.000 - ERROR - Task 'package-2' finished with status FAILURE\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(text: str, out: io.StringIO, recorded: str = "") -> list[str]:
    """What is printed if the text arrives in small pieces; checks that the log has all of it."""
    log = io.StringIO()
    lines = StepLines(out, log, lambda run, step: recorded if run == "92738062" else "", "refresh[7]")
    for start in range(0, len(text), 7):
        lines.write(text[start : start + 7])
    assert len(log.getvalue().splitlines()) == len(text.splitlines()) and "\x1b" not in log.getvalue()
    return out.getvalue().removesuffix("\n").split("\n")


def test_a_step_is_a_line_with_its_state_time_and_finding() -> None:
    assert shown(GOVERN + DONE, io.StringIO()) == [
        "refresh[7] govern …",
        "refresh[7] govern: checking items: 1,280 of 2,640 rows, 31.2 rows/s, 44 s left",
        "refresh[7] govern done, 0 s: 81 classes",
    ]
    assert shown(GOVERN + DONE, io.StringIO(), "12 photos")[-1] == "refresh[7] govern done, 0 s: 12 photos"


def test_work_without_units_is_progress_not_a_finding(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "immr")
    monkeypatch.setattr(progress_bar, "_FIRST_AFTER_S", 0.0)
    with progress_bar.elapsed("counting clicks"):
        until(lambda: caplog.messages)
    [line] = caplog.messages
    for printed in (f"    {line}\n", f"    [KFP Executor 2026-11-28 21:02:30,000 INFO]: {line}\n"):
        assert shown(GOVERN + printed + DONE, io.StringIO())[-2:] == [
            f"refresh[7] govern: {line}",
            "refresh[7] govern done, 0 s: 81 classes",
        ]


def test_a_failed_step_ends_with_its_error() -> None:
    """A second branch's step has a number, which is not part of its name."""
    assert shown(PACKAGE + FAILED, io.StringIO()) == [
        "refresh[7] package …",
        "refresh[7] package failed, 0 s: ValueError: no disk",
    ]


def test_a_terminal_keeps_one_line_per_step() -> None:
    [line] = shown(GOVERN + DONE, Terminal())
    assert line.rpartition("\x1b[K")[2] == "refresh[7] govern done, 0 s: 81 classes"
    assert line.startswith("\r\x1b[Krefresh[7] govern …\r\x1b[Krefresh[7] govern: checking items")
