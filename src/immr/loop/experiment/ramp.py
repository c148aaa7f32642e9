"""Ramp and stop: change the challengers' share of the users."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from immr.errors import ImmrError
from immr.experiment import changes
from immr.experiment.definition import Experiment, load, save
from immr.loop.experiment.history import keep_report
from immr.loop.experiment.noting import complete_notes, events_of, intend, save_noted
from immr.loop.experiment.queue import advance_locked
from immr.loop.experiment.running import exclusive, running_test
from immr.loop.watch import read_out

if TYPE_CHECKING:
    from immr.experiment.history import TestEvent
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
        save_noted(parts, ramped, events_of(ramped, "ramped"))
        return ramped


def stop(parts: Parts, revision: str = "") -> Experiment:
    """Send all users to the champion. A version that waits for the end of this test comes next.

    Raises:
        ExperimentError: There is no experiment, or it has another `revision`.
    """
    with exclusive(parts, revision=revision):
        was_running = running_test(parts) is not None
        stopped = changes.stop(load(parts.settings.experiment_file))
        events = events_of(stopped, "stopped") if was_running else []
        intend(parts, stopped, events)
        save(stopped, parts.settings.experiment_file)
        if events:
            _read_out_and_note(parts, stopped, events)
        advance_locked(parts)
        return stopped


def _read_out_and_note(parts: Parts, stopped: Experiment, events: Sequence[TestEvent]) -> None:
    """Users have left the challenger already, so an event log that is down only costs the report."""
    try:
        watched = read_out(parts)
    except ImmrError as error:
        log.warning("there is no report of %s: %s", stopped.name, error)
        complete_notes(parts)
        return
    decision = watched.decision
    events = [replace(each, reason=decision.reason, numbers=decision.numbers) for each in events]
    intend(parts, stopped, events)
    complete_notes(parts)
    keep_report(parts, watched, events)
