"""From the journal to the event log: one thread, in order, many events to a commit, until they are there."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future

from immr.errors import EventLogError
from immr.events.event_log import EventLog
from immr.events.journal import Clicked, Entry, EventJournal, Shown

_LOG = logging.getLogger(__name__)

_BATCH = 500
_GATHER_S = 0.05  # a commit for each search would take as long as the search's own way through the gateway
_FIRST_PAUSE_S = 0.05
_MAX_PAUSE_S = 2.0
STOP_TIMEOUT_S = 30.0
"""How long a process that stops may take for what waits."""


class Delivery:
    """Takes events at once, and brings them to the log from a thread of its own.

    What was taken is in the journal: it survives this process, and waits there while the log is away.

    Args:
        open_log: Gives the log; called again after each error.
        journal: Where events wait.
        on_clicks: Told of clicks that the log took, and how many of them were new; from the thread.
    """

    def __init__(
        self,
        open_log: Callable[[], EventLog],
        journal: EventJournal,
        on_clicks: Callable[[Clicked, int], None] = lambda clicked, new: None,
    ) -> None:
        self._open_log = open_log
        self._journal = journal
        self._on_clicks = on_clicks
        self._log: EventLog | None = None
        self._tickets: dict[str, Future[int]] = {}
        self._away = ""
        self._wake = threading.Event()
        self._wake.set()  # for what an earlier process has left
        self._hurry = threading.Event()  # somebody waits for the log
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()

    @property
    def away_because(self) -> str:
        """Why the log takes nothing now; empty while it does."""
        return self._away

    @property
    def waiting_bytes(self) -> int:
        """What the log has yet to take."""
        return self._journal.waiting_bytes

    def shown(self, shown: Shown) -> None:
        """Take a search; it survives this process when this returns.

        Raises:
            EventLogError: as much waits as may.
        """
        self._journal.append(shown)
        self._wake.set()

    def clicked(self, clicked: Clicked) -> Future[int]:
        """Take clicks; the future says how many were new, once the log has them.

        Raises:
            EventLogError: as much waits as may.
        """
        told: Future[int] = Future()
        self._tickets[clicked.ticket] = told
        try:
            self._journal.append(clicked)
        except EventLogError:
            del self._tickets[clicked.ticket]
            raise
        self._hurry.set()
        self._wake.set()
        return told

    def sync(self) -> None:
        """Bring what waits to the disk, so that it survives a power cut too.

        Raises:
            EventLogError: the disk does not take it.
        """
        self._journal.sync()

    def close(self) -> None:
        """Deliver what waits, where the log takes it; the rest stays in the journal."""
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
            except Exception as error:  # a thread that dies would leave events waiting for ever
                self._note_away(error)
                self._secure()
                if self._stopping.is_set():
                    break
                self._stopping.wait(pause_s)
                pause_s = min(2 * pause_s, _MAX_PAUSE_S)
                self._wake.set()
            if self._stopping.is_set() and not self._wake.is_set():
                break
        self._let_go()

    def _deliver_all(self) -> None:
        while True:
            batch = self._journal.next(_BATCH)
            new = self._record(batch.entries) if batch.entries else []
            self._journal.delivered(batch)
            if not batch.entries:  # there may have been broken lines, which wait no longer
                return
            if self._away:
                _LOG.info("the event log is back")
                self._away = ""
            for clicked, count in new:
                self._on_clicks(clicked, count)
                if told := self._tickets.pop(clicked.ticket, None):
                    told.set_result(count)

    def _record(self, entries: list[Entry]) -> list[tuple[Clicked, int]]:
        """Commit these together; for the clicks among them, how many were new."""
        if self._log is None:
            self._log = self._open_log()
        new = []
        with self._log.batch():
            for entry in entries:
                if isinstance(entry, Shown):
                    self._log.record_search(entry.search, entry.impressions)
                else:
                    new.append((entry, self._log.record_clicks(entry.clicks)))
        return new

    def _note_away(self, error: Exception) -> None:
        if not self._away:  # said once per outage
            _LOG.error(
                "the event log is away, events wait on disk: %s",
                error,
                exc_info=None if isinstance(error, EventLogError) else error,
            )
        self._away = str(error) or type(error).__name__
        self._let_go()

    def _secure(self) -> None:
        """What waits is to survive a power cut too, though it was answered before."""
        try:
            self._journal.sync()
        except EventLogError as error:
            _LOG.error("what waits is not on the disk: %s", error)

    def _let_go(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None
