"""Delivers events from the journal to the event log: one thread, in order, many events per commit."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from weakref import WeakValueDictionary

from immr.errors import EventLogError, EventRefusedError
from immr.events.event_log import EventLog
from immr.events.journal import EventJournal
from immr.events.journal_entries import Clicked, Entry, Shown, to_line

_LOG = logging.getLogger(__name__)

_BATCH = 500
_GATHER_S = 0.05  # one commit per search would take as long as the search itself
_FIRST_PAUSE_S = 0.05
_MAX_PAUSE_S = 2.0
STOP_TIMEOUT_S = 30.0
"""How long a stopping process waits for its last events to be delivered."""


class Delivery:
    """Accepts events at once and delivers them to the log from its own thread.

    Accepted events are in the journal: they survive this process and wait there while the log is down. An
    event that the log refuses for good is set aside (`EventJournal.refused`); the others are delivered.

    Args:
        open_log: Opens the log; called again after each error.
        journal: Where events wait; closed by `close`.
        on_clicks: Called from the thread with clicks that the log accepted and how many of them were new.
        on_refused: Called from the thread for each refused event.
    """

    def __init__(
        self,
        open_log: Callable[[], EventLog],
        journal: EventJournal,
        on_clicks: Callable[[Clicked, int], None] = lambda clicked, new: None,
        on_refused: Callable[[], None] = lambda: None,
    ) -> None:
        self._open_log = open_log
        self._journal = journal
        self._on_clicks = on_clicks
        self._on_refused = on_refused
        self._log: EventLog | None = None
        # by ticket; weak, because in an outage callers go, and a future takes several times its line's memory
        self._waiting = WeakValueDictionary[str, Future[int]]()
        self._outage = ""
        self._wake = threading.Event()
        self._wake.set()  # an earlier process may have left events
        self._hurry = threading.Event()  # a caller is waiting for the result
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()

    @property
    def away_because(self) -> str:
        """Why the log is unavailable at the moment; empty if it is available."""
        return self._outage

    @property
    def waiting_bytes(self) -> int:
        """Size of the events that the log does not have yet."""
        return self._journal.waiting_bytes

    @property
    def refused(self) -> int:
        """Events that the log refused for good since this process started."""
        return self._journal.refused.count

    def shown(self, shown: Shown) -> None:
        """Accept a search; it survives this process once this returns.

        Raises:
            EventLogError: The journal has reached its limit or cannot be written.
        """
        self._journal.append(shown)
        self._wake.set()

    def clicked(self, clicked: Clicked) -> Future[int]:
        """Accept clicks; the future gives the number of new ones once the log has them.

        Raises:
            EventLogError: The journal has reached its limit or cannot be written.
        """
        new: Future[int] = Future()
        self._waiting[clicked.ticket] = new
        self._journal.append(clicked)
        self._hurry.set()
        self._wake.set()
        return new

    def sync(self) -> None:
        """Flush waiting events to the disk, so that they survive a power cut as well.

        Raises:
            EventLogError: The disk refused.
        """
        self._journal.sync()

    def close(self) -> None:
        """Deliver the waiting events if the log accepts them; the rest stays in the journal."""
        self._stopping.set()
        self._hurry.set()
        self._wake.set()
        self._thread.join(STOP_TIMEOUT_S)
        self._journal.close()

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            self._wake.wait()
            self._wake.clear()
            self._hurry.wait(_GATHER_S)
            self._hurry.clear()
            try:
                self._deliver_all()
                pause_s = _FIRST_PAUSE_S
            except Exception as error:  # if the thread died, events would wait forever
                self._begin_outage(error)
                if self._stopping.is_set():
                    break
                self._stopping.wait(pause_s)
                pause_s = min(2 * pause_s, _MAX_PAUSE_S)
                self._wake.set()
            if self._stopping.is_set() and not self._wake.is_set():
                break
        self._close_log()

    def _deliver_all(self) -> None:
        most = _BATCH
        while True:
            batch = self._journal.next(most)
            try:
                new = self._record(batch.entries) if batch.entries else []
            except EventRefusedError:  # bisect: each part is a batch, so an outage between two loses no count
                most = len(batch.entries) // 2
                continue
            most = min(2 * most, _BATCH)
            for line, reason in batch.broken:
                self._set_aside(line, reason)
            self._journal.delivered(batch)
            if not batch.entries and not batch.broken:
                return
            if batch.entries and self._outage:
                _LOG.info("the event log is back")
                self._outage = ""
            for clicked, count in new:
                self._on_clicks(clicked, count)
                if future := self._waiting.pop(clicked.ticket, None):
                    future.set_result(count)

    def _record(self, entries: list[Entry]) -> list[tuple[Clicked, int]]:
        """Commit the entries together; returns each `Clicked` with the number of new clicks.

        An entry that the log refuses is set aside if it is alone.

        Raises:
            EventRefusedError: The log refuses one of several entries.
        """
        try:
            return self._commit(entries)
        except EventRefusedError as error:
            if len(entries) > 1:
                raise
            [entry] = entries
            self._set_aside(to_line(entry), str(error))
            return [(entry, 0)] if isinstance(entry, Clicked) else []

    def _commit(self, entries: list[Entry]) -> list[tuple[Clicked, int]]:
        if self._log is None:
            self._log = self._open_log()
        searches = [(entry.search, entry.impressions) for entry in entries if isinstance(entry, Shown)]
        clicked = [entry for entry in entries if isinstance(entry, Clicked)]
        new = self._log.record_all(searches, [entry.clicks for entry in clicked])
        return list(zip(clicked, new, strict=True))

    def _set_aside(self, line: bytes, reason: str) -> None:
        self._journal.refused.add(line, reason)
        self._on_refused()

    def _begin_outage(self, error: Exception) -> None:
        """Log the first error of an outage, and flush the waiting events, whose senders count on them."""
        if not self._outage:
            _LOG.error(
                "the event log is down, events wait on disk: %s",
                error,
                exc_info=None if isinstance(error, EventLogError) else error,
            )
        self._outage = str(error) or type(error).__name__
        self._close_log()
        try:
            self._journal.sync()
        except EventLogError as sync_error:
            _LOG.error("waiting events may be lost in a power cut: %s", sync_error)

    def _close_log(self) -> None:
        if self._log is not None:
            log, self._log = self._log, None
            log.close()
