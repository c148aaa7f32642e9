"""History: list all tests, and show the report of each."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from immr.errors import ExperimentBusyError, ExperimentError
from immr.experiment.file import load
from immr.experiment.history import Happening, PastTest, TestEvent, read
from immr.loop.experiment.reports import kept_report, report_page
from immr.loop.experiment.running_test import exclusive
from immr.loop.experiment.save_change import change_marker, who
from immr.loop.watch import read_out

if TYPE_CHECKING:
    from immr.wiring import Parts


def history(parts: Parts) -> list[PastTest]:
    """All tests of this home, newest first."""
    if change_marker(parts).is_file():
        with suppress(ExperimentBusyError), exclusive(parts, timeout_s=0):
            pass  # this adds what a killed command did not write
    return read(parts.settings.history_file)


def rollback_events(parts: Parts, bad: str, back: str) -> list[TestEvent]:
    """The events of a rollback from one version to another, at the tests that promoted them.

    A second rollback undoes the first, and so restores the promotion that the first one undid.
    """
    reason = f"{bad} was rolled back by hand: all users get {back} again."
    happened: tuple[tuple[Happening, str, bool], ...] = (("undone", bad, False), ("restored", back, True))
    events = []
    for what, winner, undone in happened:
        past = next((each for each in history(parts) if each.winner == winner), None)
        if past is None or past.undone is not undone:
            continue
        share = 1.0 if what == "restored" else 0.0
        champion = past.events[-1].champion
        events.append(TestEvent(datetime.now(UTC), past.name, what, who(), champion, winner, share, reason))
    return events


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
