"""The embedded event log: one SQLite file in WAL mode, shared by threads and processes."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import pyarrow as pa

from immr.errors import EventLogError, EventRefusedError
from immr.events.event_log import Shown
from immr.events.sql import (
    MICROSECOND,
    Row,
    SqlReports,
    batches_of,
    click_row,
    impression_row,
    microseconds,
    search_row,
)
from immr.events.sqlite import queries
from immr.types import Click, Impression, SearchRecord

_SCHEMA_VERSION = 3
_BUSY_TIMEOUT_S = 30.0


class SqliteEventLog(SqlReports):
    """An `EventLog` in a file, created if missing.

    Writers queue behind a lock within a process and behind SQLite's own between processes. Each reader has
    its own connection and never waits for writers.

    Args:
        path: The database file.
        join_window: A click or an order counts for an impression until this long after it.
        synchronous: With `FULL`, every commit is flushed to the disk: what was acknowledged survives a power
            cut. With `NORMAL` it only survives the death of the process, and writes are faster.

    Raises:
        EventLogError: The file is not an event log, is one of a newer release, or is not writable.
    """

    _queries = queries

    def __init__(
        self,
        path: Path,
        join_window: timedelta = timedelta(hours=24),
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
    ) -> None:
        self._path = path
        self._window_us = join_window // MICROSECOND
        self._lock = threading.RLock()  # re-entrant, for the thread that records within its batch
        with self._translate_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._connect()
            try:
                self._prepare(synchronous)
            except BaseException:
                self._writer.close()
                raise

    def record_search(self, search: SearchRecord, impressions: Sequence[Impression]) -> int:
        """See `EventLog.record_search`."""
        row = search_row(search, microseconds)
        shown = [impression_row(impression, microseconds) for impression in impressions]
        with self._transaction() as connection:
            _insert(connection, self._into["searches"], [row])
            return _insert(connection, self._into["impressions"], shown)

    def record_impressions(self, impressions: Sequence[Impression]) -> int:
        """See `EventLog.record_impressions`."""
        return self._append(
            "impressions", [impression_row(impression, microseconds) for impression in impressions]
        )

    def record_clicks(self, clicks: Sequence[Click]) -> int:
        """See `EventLog.record_clicks`."""
        return self._append("clicks", [click_row(click, microseconds) for click in clicks])

    def record_all(self, searches: Sequence[Shown], clicks: Sequence[Sequence[Click]]) -> list[int]:
        """See `EventLog.record_all`."""
        with self.batch():
            for search, impressions in searches:
                self.record_search(search, impressions)
            return [self.record_clicks(group) for group in clicks]

    @contextmanager
    def batch(self) -> Iterator[None]:
        """See `EventLog.batch`; an error rolls back the whole batch."""
        with self._transaction():
            yield

    def close(self) -> None:
        """See `EventLog.close`."""
        with self._lock:
            self._writer.close()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )

    def _prepare(self, synchronous: str) -> None:
        _switch_to_wal(self._writer)
        self._writer.execute(f"PRAGMA synchronous = {synchronous}")
        with self._transaction() as connection:
            for statement in queries.TABLES:
                connection.execute(statement)
            stored = connection.execute("SELECT MAX(version) FROM schema_version").fetchone()[0]
            if stored is None:
                connection.execute("INSERT INTO schema_version VALUES (?)", (_SCHEMA_VERSION,))
            elif stored in queries.MIGRATIONS:
                for version in range(stored, _SCHEMA_VERSION):
                    connection.execute(queries.MIGRATIONS[version])
                connection.execute("UPDATE schema_version SET version = ?", (_SCHEMA_VERSION,))
            elif stored != _SCHEMA_VERSION:
                raise EventLogError(
                    f"the event log {self._path} has schema version {stored}, but this release of IMMR reads "
                    f"version {_SCHEMA_VERSION}: use the release that wrote it, or another file"
                )
            self._into = {
                table: _columns(connection, table) for table in ("searches", "impressions", "clicks")
            }

    def _append(self, table: str, rows: list[Row]) -> int:
        if not rows:
            return 0
        with self._transaction() as connection:
            return _insert(connection, self._into[table], rows)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._translate_errors(), self._lock:
            if self._writer.in_transaction:  # within a batch, which commits
                yield self._writer
                return
            # IMMEDIATE, because a transaction that began as a reader fails if another process is writing
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def _rows(self, query: str, since: datetime | None, **values: int | list[str]) -> list[Row]:
        with self._translate_errors(), closing(self._connect()) as connection:
            return list(self._select(connection, query, since, **values))

    def _batches(
        self, query: str, schema: pa.Schema, since: datetime | None, **values: int | list[str]
    ) -> Generator[pa.RecordBatch, None, None]:
        with self._translate_errors(), closing(self._connect()) as connection:
            yield from batches_of(self._select(connection, query, since, **values), schema)

    def _select(
        self, connection: sqlite3.Connection, query: str, since: datetime | None, **values: int | list[str]
    ) -> sqlite3.Cursor:
        start = microseconds(since) if since is not None else -(2**62)
        given = {name: json.dumps(of) if isinstance(of, list) else of for name, of in values.items()}
        return connection.execute(query, {"since": start, "window": self._window_us, **given})

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.DataError, OverflowError, UnicodeEncodeError) as error:
            raise EventRefusedError(
                f"the event log {self._path} refuses an event ({error}): give each field a value of its type"
            ) from error
        except (sqlite3.Error, OSError) as error:
            raise EventLogError(
                f"the event log {self._path} failed ({error}): check that it is an event log and not closed, "
                "that its folder is writable, and that the disk is not full"
            ) from error


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Retry while other processes are starting: SQLite's busy timeout does not apply to this pragma."""
    deadline = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _columns(connection: sqlite3.Connection, table: str) -> str:
    """A table and this release's columns, so that it can still write after a newer one has added a column."""
    names = (name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})"))
    return f"{table} ({', '.join(names)})"


def _insert(connection: sqlite3.Connection, table_and_columns: str, rows: Iterable[Row]) -> int:
    """Insert the rows that do not exist yet; returns how many were new."""
    rows = list(rows)
    if not rows:
        return 0
    marks = ", ".join("?" * len(rows[0]))
    # not INSERT OR IGNORE, which would also skip rows with a NULL in a NOT NULL column
    cursor = connection.executemany(
        f"INSERT INTO {table_and_columns} VALUES ({marks}) ON CONFLICT DO NOTHING", rows
    )
    return cursor.rowcount
