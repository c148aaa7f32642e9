"""The report of each test: an HTML page that is kept when the test ends."""

from __future__ import annotations

import errno
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from immr.errors import ExperimentError
from immr.experiment.history import ENDS, TestEvent, read
from immr.storage.atomic import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from immr.loop.watch import Watched
    from immr.wiring import Parts

log = logging.getLogger(__name__)


def kept_report(parts: Parts, test: str) -> Path:
    """Where the report of an ended test is kept.

    Raises:
        ExperimentError: The name is not that of a test.
    """
    if not test or "/" in test or test.startswith("."):
        raise ExperimentError(f"{test!r} is not the name of a test: see `immr experiment history`")
    return parts.settings.test_reports / f"{test}.html"


def report_page(parts: Parts, watched: Watched, ending: Sequence[TestEvent] = ()) -> str:
    """The page of a readout, with what has happened to its test, also with the events that are about to end it."""
    from immr.readout.formats.report import render

    tests = read(parts.settings.history_file)
    past = next((each for each in tests if each.name == watched.experiment.name), None)
    events = past.events if past else ()
    new = tuple(each for each in ending if each not in events)
    return render(watched.experiment, watched.readout, watched.decision, watched.segments, (*events, *new))


def last_report(parts: Parts, watched: Watched, ending: Sequence[TestEvent]) -> str:
    """The page of a test that ends with these events; empty if it fails, because the test ends nevertheless."""
    try:
        return report_page(parts, watched, ending)
    except Exception as error:  # any error: users wait to leave a bad version
        log.warning("there is no report of %s: %s", watched.experiment.name, error)
        return ""


def keep_report(parts: Parts, page: str, events: Sequence[TestEvent]) -> bool:
    """Keep the page of the test that ended with these events; mark kept pages of promotions that were rolled back.

    A file that cannot be written is logged.

    Returns:
        False if the disk is full, so that a later call can do it.
    """
    from immr.readout.formats.report import mark_rollback

    for event in events:
        kept = kept_report(parts, event.test)
        try:
            if page and event.what in ENDS:
                write_atomically(kept, page)
            if event.what in ("undone", "restored") and kept.is_file():
                write_atomically(kept, mark_rollback(kept.read_text(encoding="utf-8"), event))
        except OSError as error:
            log.warning("the report %s was not written: %s", kept, error)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return False
    return True
