"""Ramp and stop: change the challengers' share of the users."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from immr.experiment import changes
from immr.experiment.definition import Experiment
from immr.experiment.file import load
from immr.loop.experiment.queue import advance_locked
from immr.loop.experiment.recovery import can_complete
from immr.loop.experiment.running_test import exclusive, running_test
from immr.loop.experiment.save_change import events_of, save_change

if TYPE_CHECKING:
    from immr.wiring import Parts


def ramp(parts: Parts, share: float, revision: str = "") -> Experiment:
    """Give each challenger a larger share of the users; the readout starts over.

    Raises:
        ExperimentError: No test is running, the share is not larger than before, or the experiment has another
            `revision`.
    """
    with exclusive(parts, revision=revision):
        ramped = changes.ramp(load(parts.settings.experiment_file), share, datetime.now(UTC))
        save_change(parts, ramped, events_of(ramped, "ramped"))
        return ramped


def stop(parts: Parts, revision: str = "") -> Experiment:
    """Send all users to the champion. A version that waits for the end of this test comes next.

    Raises:
        ExperimentError: There is no experiment, or it has another `revision`.
    """
    with exclusive(parts, revision=revision):
        was_running = running_test(parts) is not None
        stopped = changes.stop(load(parts.settings.experiment_file), datetime.now(UTC))
        events = events_of(stopped, "stopped") if was_running else []
        save_change(parts, stopped, events, ended=stopped)
        if can_complete(parts):
            advance_locked(parts)
        return stopped
