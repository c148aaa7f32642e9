"""Save a change of the experiment with its lines in the history, so that a crash in between loses neither."""

from __future__ import annotations

import getpass
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from immr.errors import ExperimentError
from immr.experiment.definition import Experiment, load, save
from immr.experiment.history import Happening, TestEvent, add_missing, from_row, to_row
from immr.experiment.revision import revision_of
from immr.storage.atomic import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from immr.experiment.definition import Variant
    from immr.wiring import Parts

log = logging.getLogger(__name__)


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


def save_noted(parts: Parts, after: Experiment, events: Sequence[TestEvent]) -> None:
    """Save an experiment, then add what happened to the history.

    After a crash in between, the next command that changes the experiment adds it, see `exclusive`.
    """
    intend(parts, after, events)
    save(after, parts.settings.experiment_file)
    complete_notes(parts)


def intend(parts: Parts, after: Experiment, events: Sequence[TestEvent]) -> None:
    """Write down the events that belong to a change, before it is saved."""
    if events:
        content = {"after": revision_of(after), "events": [to_row(each) for each in events]}
        write_atomically(notes_marker(parts), json.dumps(content))


def complete_notes(parts: Parts) -> None:
    """Add the events of the last change to the history and to kept reports, unless the change was never saved."""
    marker = notes_marker(parts)
    if not marker.is_file():
        return
    intended = json.loads(marker.read_text(encoding="utf-8"))
    try:
        is_saved = revision_of(load(parts.settings.experiment_file)) == intended["after"]
    except ExperimentError:
        is_saved = False
    if is_saved:
        events = [from_row(row) for row in intended["events"]]
        add_missing(parts.settings.history_file, events)
        for event in events:
            _mark_rollback(kept_report(parts, event.test), event)
    marker.unlink()


def notes_marker(parts: Parts) -> Path:
    """A file with the events of a change that is being saved; deleted once the history has them."""
    return parts.settings.experiment_file.with_name("noting")


def kept_report(parts: Parts, test: str) -> Path:
    """Where the report of an ended test is kept.

    Raises:
        ExperimentError: The name is not that of a test.
    """
    if not test or "/" in test or test.startswith("."):
        raise ExperimentError(f"{test!r} is not the name of a test: see `immr experiment history`")
    return parts.settings.test_reports / f"{test}.html"


def _mark_rollback(kept: Path, event: TestEvent) -> None:
    """A kept report of a promotion says that it was undone or restored later."""
    from immr.readout.printed.report import mark_rollback

    if event.what not in ("undone", "restored"):
        return
    try:
        if kept.is_file():
            write_atomically(kept, mark_rollback(kept.read_text(encoding="utf-8"), event))
    except OSError as error:
        log.warning("%s does not say that the promotion was %s: %s", kept, event.what, error)


def who() -> str:
    """The user who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a pod's user id has no name
        return "a service"
