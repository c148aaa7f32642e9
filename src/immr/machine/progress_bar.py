"""Progress of a long step on stderr, with the time left: a bar on a terminal, elsewhere a log line now and then."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Self, TypeVar

from tqdm import tqdm

_FIRST_AFTER_S = 2.0  # a step that ends earlier shows nothing
_EVERY_S = 10.0
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class ProgressBar:
    """Counts the units of one step.

    Args:
        what: the step, such as "image features".
        total: units in all; 0 if that is unknown.
        unit: in the plural, such as "pictures".
        shown: false in processes beside the one that reports.
        done: units that an earlier run did.
    """

    def __init__(self, what: str, total: int, unit: str, shown: bool = True, done: int = 0) -> None:
        self._what, self._total, self._unit, self._shown = what, total, unit, shown
        self._from = self._done = done
        self._started = time.monotonic()
        self._next_at = self._started + _FIRST_AFTER_S
        self._bar = tqdm(
            total=total or None,
            initial=done,
            desc=what,
            unit=f" {unit}",
            delay=_FIRST_AFTER_S,
            disable=None if shown else True,
            leave=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self, units: int = 1, note: str = "") -> None:
        """Count units that were done; `note` is shown beside them."""
        self._done += units
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(units)
        if self._bar.disable and time.monotonic() > self._next_at:
            of = f" of {self._total:,}" if self._total else ""
            self.log(f"{self._what}: {self._done:,}{of} {self._unit}" + f", {note}" * bool(note))

    def log(self, what: str) -> None:
        """Log a line, with the rate and the time left once there is a rate; the next follows some seconds later."""
        now = time.monotonic()
        self._next_at = now + _EVERY_S
        rate = (self._done - self._from) / max(1e-9, now - self._started)
        pace = f", {rate:,.0f}" if rate >= 100 else f", {rate:.3g}"
        pace = f"{pace} {self._unit}/s" if rate else ""
        if rate and self._total:
            pace += f", {_duration(max(0, self._total - self._done) / rate)} left"
        if self._shown:
            _log.info("%s%s", what, pace)


def with_progress(values: Iterable[_T], what: str, unit: str, total: int) -> Iterator[_T]:
    """The values, with the progress of whoever takes them."""
    with ProgressBar(what, total, unit) as progress:
        for value in values:
            yield value
            progress.advance()


@contextmanager
def elapsed(what: str) -> Iterator[None]:
    """Show how long the block has been running, for work without units to count, such as a query of a database."""
    ended = threading.Event()
    display = threading.Thread(target=_show_elapsed, args=(what, ended), daemon=True)
    display.start()
    try:
        yield
    finally:
        ended.set()
        display.join()


def _show_elapsed(what: str, ended: threading.Event) -> None:
    started = time.monotonic()
    if ended.wait(_FIRST_AFTER_S):
        return
    with tqdm(bar_format="{desc}", disable=None, leave=False) as line:
        while True:
            so_far = f"{what}: {_duration(time.monotonic() - started)} so far"
            if line.disable:
                _log.info(so_far)
            else:
                line.set_description_str(so_far)
            if ended.wait(_EVERY_S if line.disable else 1.0):
                return


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
