"""Ramp and stop: change the challengers' share of the users."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from immr.errors import ImmrError
from immr.experiment import changes
from immr.experiment.definition import Experiment, load, save
from immr.loop.experiment.history import note, note_end
from immr.loop.experiment.queue import advance_locked
from immr.loop.experiment.running import exclusive, running_test
from immr.loop.watch import read_out

if TYPE_CHECKING:
    from immr.wiring import Parts

log = logging.getLogger(__name__)


def ramp(parts: Parts, weight: float, revision: str = "") -> Experiment:
    """Give each challenger a larger share of the users; the readout starts over.

    Raises:
        ExperimentError: No test is running, the share is not larger than before, or the experiment has another
            `revision`.
    """
    with exclusive(parts, revision=revision):
        ramped = changes.ramp(load(parts.settings.experiment_file), weight, datetime.now(UTC))
        save(ramped, parts.settings.experiment_file)
        note(parts, ramped, "ramped")
        return ramped


def stop(parts: Parts, revision: str = "") -> Experiment:
    """Send all users to the champion. A version that waits for the end of this test comes next.

    Raises:
        ExperimentError: There is no experiment, or it has another `revision`.
    """
    with exclusive(parts, revision=revision):
        was_running = running_test(parts) is not None
        stopped = changes.stop(load(parts.settings.experiment_file))
        save(stopped, parts.settings.experiment_file)
        if was_running:
            _note_stopped(parts, stopped)
        advance_locked(parts)
        return stopped


def _note_stopped(parts: Parts, stopped: Experiment) -> None:
    """Users have left the challenger already, so an event log that is down only costs the report."""
    try:
        note_end(parts, read_out(parts), "stopped")
    except ImmrError as error:
        log.warning("there is no report of %s: %s", stopped.name, error)
        note(parts, stopped, "stopped")
