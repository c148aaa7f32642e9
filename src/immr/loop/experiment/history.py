"""History: note what happens to a test, with its report, and list all tests."""

from __future__ import annotations

import getpass
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from immr.errors import ExperimentError, ImmrError
from immr.experiment.definition import load
from immr.experiment.history import Happening, PastTest, TestEvent, append, read
from immr.loop.watch import Watched, read_out
from immr.storage.atomic import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from immr.experiment.definition import Experiment, Variant
    from immr.wiring import Parts

log = logging.getLogger(__name__)


def history(parts: Parts) -> list[PastTest]:
    """All tests of this home, newest first."""
    return read(parts.settings.history_file)


def note(
    parts: Parts,
    experiment: Experiment,
    what: Happening,
    reason: str = "",
    numbers: Mapping[str, float] | None = None,
    about: Sequence[Variant] = (),
) -> None:
    """Add an event of a test or its challengers to the history; does nothing if it compares no versions."""
    if not experiment.challengers or experiment.state == "shadow":
        return
    about = about or experiment.challengers
    event = TestEvent(
        ts=datetime.now(UTC),
        test=experiment.name,
        what=what,
        by=_who(),
        champion=experiment.champion.model_version,
        challenger=", ".join(each.model_version for each in about),
        share=about[0].weight,
        reason=reason,
        numbers=numbers or {},
    )
    append(parts.settings.history_file, event)


def note_end(parts: Parts, watched: Watched, what: Happening) -> None:
    """Note the end of a test, and keep its report; a report that fails is logged."""
    experiment, decision = watched.experiment, watched.decision
    won = decision.winner
    about = (experiment.variant(won.challenger),) if what == "promoted" and won else ()
    note(parts, experiment, what, decision.reason, decision.numbers, about)
    try:
        write_atomically(kept_report(parts, watched.experiment.name), report_page(parts, watched))
    except (ImmrError, OSError) as error:
        log.warning("there is no report of %s: %s", watched.experiment.name, error)


def note_rollback(parts: Parts, bad: str, back: str) -> None:
    """Note a rollback from one version to another at the tests that promoted them, also in their kept reports.

    A second rollback undoes the first, and so restores the promotion that the first one undid.
    """
    reason = f"{bad} was rolled back by hand: all users get {back} again."
    happened: tuple[tuple[Happening, str, bool], ...] = (("undone", bad, False), ("restored", back, True))
    for what, winner, undone in happened:
        past = next((each for each in history(parts) if each.winner == winner), None)
        if past is None or past.undone is not undone:
            continue
        share = 1.0 if what == "restored" else 0.0
        event = TestEvent(
            datetime.now(UTC), past.name, what, _who(), past.events[-1].champion, winner, share, reason
        )
        append(parts.settings.history_file, event)
        _mark_rollback(kept_report(parts, past.name), event)


def _mark_rollback(kept: Path, event: TestEvent) -> None:
    from immr.readout.printed.report import mark_rollback

    try:
        if kept.is_file():
            write_atomically(kept, mark_rollback(kept.read_text(encoding="utf-8"), event))
    except OSError as error:
        log.warning("%s does not say that the promotion was %s: %s", kept, event.what, error)


def report(parts: Parts, test: str = "", by: Sequence[str] = ()) -> str:
    """The HTML page of a test: as it is now, or as it was when it ended.

    Args:
        parts: The process's adapters.
        test: Its name; by default the current one, or the last one if none is current.
        by: Dimensions of the segments, for the current test only.

    Raises:
        ExperimentError: There is no such test, no report of it was kept, or it is over and `by` is given.
        EventLogError: The event log does not answer.
    """
    test = test or _current_or_last(parts)
    kept, file = kept_report(parts, test), parts.settings.experiment_file
    if kept.is_file() and not by:
        return kept.read_text(encoding="utf-8")
    if file.is_file() and load(file).name == test:
        return report_page(parts, read_out(parts, by=by))
    if kept.is_file():
        raise ExperimentError(f"{test} is over, and its report was kept as it is: leave out --by")
    names = (past.name for past in history(parts))
    known = ", ".join(name for name in names if kept_report(parts, name).is_file()) or "none"
    raise ExperimentError(f"there is no report of a test {test!r}; these have one: {known}")


def _current_or_last(parts: Parts) -> str:
    current = load(parts.settings.experiment_file)
    if current.challengers:
        return current.name
    if tests := history(parts):
        return tests[0].name
    raise ExperimentError("there has been no test to report on: run `immr experiment start`")


def report_page(parts: Parts, watched: Watched) -> str:
    """The page of a readout, with what has happened to its test."""
    from immr.readout.printed.report import render

    past = next((each for each in history(parts) if each.name == watched.experiment.name), None)
    return render(
        watched.experiment, watched.readout, watched.decision, watched.segments, past.events if past else ()
    )


def kept_report(parts: Parts, test: str) -> Path:
    """Where the report of an ended test is kept.

    Raises:
        ExperimentError: The name is not that of a test.
    """
    if not test or "/" in test or test.startswith("."):
        raise ExperimentError(f"{test!r} is not the name of a test: see `immr experiment history`")
    return parts.settings.test_reports / f"{test}.html"


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a pod's user id has no name
        return "a service"
