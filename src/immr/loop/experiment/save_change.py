"""Save a change of the experiment together with its history, report and alerts, so that a crash loses none of them.

Lines of the history, the report of a test that ends, and alerts are in a file before the change is saved. After a
crash, the next command that changes the experiment delivers them, see `exclusive`.
"""

from __future__ import annotations

import getpass
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from immr.alerts.alert import Alert
from immr.errors import ExperimentError
from immr.experiment.definition import Experiment
from immr.experiment.file import load, save
from immr.experiment.history import ENDS, Happening, TestEvent, add_missing, from_row, to_row
from immr.experiment.revision import revision_of
from immr.loop.experiment.reports import keep_report, last_report
from immr.loop.watch import read_out
from immr.storage.atomic import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from immr.experiment.definition import Variant
    from immr.wiring import Parts

log = logging.getLogger(__name__)

_READ_OUT_TRIES = 2
"""A readout that ends the process, for lack of memory, must not end every later command too."""


def events_of(
    experiment: Experiment,
    what: Happening,
    reason: str = "",
    numbers: Mapping[str, float] | None = None,
    about: Sequence[Variant] = (),
) -> list[TestEvent]:
    """The event of a test or of some of its challengers; none if it compares no versions."""
    if not experiment.challengers or experiment.state == "shadow":
        return []
    about = about or experiment.challengers
    event = TestEvent(
        ts=datetime.now(UTC),
        test=experiment.name,
        what=what,
        by=who(),
        champion=experiment.champion.model_version,
        challenger=", ".join(each.model_version for each in about),
        share=about[0].weight,
        reason=reason,
        numbers=numbers or {},
    )
    return [event]


def save_change(
    parts: Parts,
    after: Experiment,
    events: Sequence[TestEvent],
    report: str = "",
    alerts: Sequence[Alert] = (),
    ended: Experiment | None = None,
) -> None:
    """Save an experiment, then add what happened to the history, keep the report, and send the alerts.

    Args:
        parts: The process's adapters.
        after: The experiment.
        events: What happened.
        report: The page of the test that these events end; empty for none.
        alerts: Sent once the experiment is saved; after a crash perhaps twice.
        ended: Read this out once `after` is saved, for the reason of the event that ends it and for its report.
    """
    if events or alerts:
        if ended is not None:
            save(ended, _ended_file(parts))
        content = {
            "after": revision_of(after),
            "events": [to_row(each) for each in events],
            "report": report,
            "alerts": [asdict(each) for each in alerts],
            "readouts": _READ_OUT_TRIES if ended is not None else 0,
        }
        write_atomically(change_marker(parts), json.dumps(content))
    save(after, parts.settings.experiment_file)
    complete_change(parts)


def complete_change(parts: Parts) -> None:
    """Write history and report of the last change, and send its alerts, unless the change was never saved."""
    marker = change_marker(parts)
    if not marker.is_file():
        _ended_file(parts).unlink(
            missing_ok=True
        )  # of a process that was killed before or after it had a marker
        return
    intended = json.loads(marker.read_text(encoding="utf-8"))
    if _is_saved(parts, intended["after"]):
        events, page = [from_row(row) for row in intended["events"]], intended.get("report", "")
        if tries := intended.get("readouts", 0):
            write_atomically(marker, json.dumps(intended | {"readouts": tries - 1}))
            events, page = _read_out(parts, events)
        add_missing(parts.settings.history_file, events)
        if not keep_report(parts, page, events):
            return  # the next command tries again
        for alert in intended.get("alerts", ()):
            parts.alerts.send(Alert(**alert))
    marker.unlink()
    _ended_file(parts).unlink(missing_ok=True)


def _is_saved(parts: Parts, revision: str) -> bool:
    try:
        return revision_of(load(parts.settings.experiment_file)) == revision
    except ExperimentError:
        return False


def _read_out(parts: Parts, events: list[TestEvent]) -> tuple[list[TestEvent], str]:
    """The events, with the reason and the numbers of a readout in the one that ends the test, and the report.

    Users have left the challenger already, so an event log that is down only costs the report.
    """
    file = _ended_file(parts)
    try:
        watched = read_out(parts, experiment=load(file) if file.is_file() else None)
    except Exception as error:  # any error: it would keep every later command from working
        log.warning("there is no report of %s: %s", ", ".join(each.test for each in events), error)
        return events, ""
    decision = watched.decision
    events = [
        replace(each, reason=f"{each.reason} {decision.reason}".strip(), numbers=decision.numbers)
        if each.what in ENDS
        else each
        for each in events
    ]
    return events, last_report(parts, watched, [each for each in events if each.what in ENDS])


def change_marker(parts: Parts) -> Path:
    """A file with the events of a change that is being saved; deleted once history, report and alerts are out."""
    return parts.settings.experiment_file.with_name("noting")


def _ended_file(parts: Parts) -> Path:
    """The experiment that is read out while its end is noted."""
    return parts.settings.experiment_file.with_name("ended.json")


def who() -> str:
    """The user who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a pod's user id has no name
        return "a service"
