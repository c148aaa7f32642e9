"""Reports of tests: one that cannot be written keeps no test from ending."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from immr.experiment.file import load
from immr.loop.experiment.decide import decide
from immr.loop.experiment.history import history
from immr.loop.experiment.ramp import stop
from immr.loop.experiment.reports import kept_report
from immr.loop.experiment.start import start
from immr.settings import Settings
from immr.wiring import connect
from tests.support.two_versions import shop


def broken(*_: Any) -> str:
    raise ValueError("a chart without an axis")


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_report_that_fails_keeps_no_user_in_a_bad_version(
    deployed: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, by_hand: bool
) -> None:
    """An error in a chart ended the command before the test's line in the history."""
    monkeypatch.setattr("immr.readout.formats.report.render", broken)
    shop(deployed, start(connect(deployed)), {"champion": 8, "challenger": 2}, users=400, every_s=1e-4)
    with caplog.at_level(logging.WARNING):
        if by_hand:
            stop(connect(deployed))
        else:
            decide(connect(deployed), apply=True)
    assert "a chart without an axis" in caplog.text
    assert load(deployed.experiment_file).state == "stopped"
    [past] = history(connect(deployed))
    assert past.outcome == ("stopped" if by_hand else "rolled back")
    assert past.reason.startswith("The challenger loses most of the clicks")


def test_a_report_that_cannot_be_kept_is_logged(deployed: Settings, caplog: pytest.LogCaptureFixture) -> None:
    test = start(connect(deployed))
    kept_report(connect(deployed), test.name).mkdir(parents=True)  # a folder in its place
    with caplog.at_level(logging.WARNING):
        stop(connect(deployed))
    assert "was not written" in caplog.text
    assert history(connect(deployed))[0].outcome == "stopped"
