"""The embedded event log: one SQLite file in WAL mode, shared by threads and processes.

Times are kept as whole microseconds since 1970 (UTC), so that the join and the sums need no parsing.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from immr.errors import EventLogError
from immr.events import sqlite_sums
from immr.events.aggregates import Counted, CtrBucket, Funnel, Latency, SummedBy
from immr.events.event_log import JOINED_SCHEMA, QUERIES_SCHEMA, SEARCHES_SCHEMA
from immr.types import Click, Impression, SearchRecord

_LOG = logging.getLogger(__name__)
_SCHEMA_VERSION = 1
_BUSY_TIMEOUT_S = 30.0
_ROWS_PER_BATCH = 50_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_TABLES = (
    "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)",
    """CREATE TABLE IF NOT EXISTS searches (
        query_id TEXT PRIMARY KEY, user_id TEXT NOT NULL, ts INTEGER NOT NULL, variant TEXT NOT NULL,
        model_version TEXT NOT NULL, took_ms REAL NOT NULL, results INTEGER NOT NULL,
        degraded INTEGER NOT NULL, fallback INTEGER NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS impressions (
        query_id TEXT NOT NULL, item_id TEXT NOT NULL, position INTEGER NOT NULL, user_id TEXT NOT NULL,
        variant TEXT NOT NULL, model_version TEXT NOT NULL, ts INTEGER NOT NULL,
        PRIMARY KEY (query_id, item_id, position)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS clicks (
        event_id TEXT PRIMARY KEY, type TEXT NOT NULL, query_id TEXT NOT NULL, item_id TEXT NOT NULL,
        ts INTEGER NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS searches_by_ts ON searches (ts)",
    "CREATE INDEX IF NOT EXISTS impressions_by_ts ON impressions (ts)",
    "CREATE INDEX IF NOT EXISTS clicks_by_impression ON clicks (query_id, item_id, type, ts)",
)

_CLICKED = """EXISTS (SELECT 1 FROM clicks c WHERE c.query_id = i.query_id AND c.item_id = i.item_id
    AND c.type IN ('click', 'order') AND c.ts <= i.ts + :window)"""
_ORDERED = """EXISTS (SELECT 1 FROM clicks c WHERE c.query_id = i.query_id AND c.item_id = i.item_id
    AND c.type = 'order' AND c.ts <= i.ts + :window)"""

_JOINED = f"""SELECT query_id, user_id, item_id, position, {_CLICKED}, {_ORDERED}, variant, model_version, ts
    FROM impressions i WHERE ts >= :since ORDER BY ts, query_id, position, item_id"""

_SEARCHES = """SELECT query_id, user_id, ts, variant, model_version, took_ms, results, degraded, fallback
    FROM searches WHERE ts >= :since ORDER BY ts, query_id"""

_CTR = f"""SELECT ts - ts % :bucket AS start, variant, model_version, COUNT(*), SUM({_CLICKED})
    FROM impressions i WHERE ts >= :since GROUP BY start, variant, model_version
    ORDER BY start, variant, model_version"""

_FUNNEL = f"""WITH shown AS (
        SELECT variant, COUNT(*) AS impressions, SUM({_CLICKED}) AS clicks, SUM({_ORDERED}) AS orders
        FROM impressions i WHERE ts >= :since GROUP BY variant),
    asked AS (
        SELECT variant, COUNT(*) AS queries, SUM(results = 0) AS zero, SUM(degraded) AS degraded,
            SUM(fallback) AS fallback
        FROM searches WHERE ts >= :since GROUP BY variant)
    SELECT variant, COALESCE(queries, 0), COALESCE(zero, 0), COALESCE(degraded, 0), COALESCE(fallback, 0),
        COALESCE(impressions, 0), COALESCE(clicks, 0), COALESCE(orders, 0)
    FROM (SELECT variant FROM asked UNION SELECT variant FROM shown)
    LEFT JOIN asked USING (variant) LEFT JOIN shown USING (variant) ORDER BY variant"""

_LATENCY = """WITH ranked AS (
        SELECT variant, took_ms, ROW_NUMBER() OVER (PARTITION BY variant ORDER BY took_ms) AS place,
            COUNT(*) OVER (PARTITION BY variant) AS n
        FROM searches WHERE ts >= :since)
    SELECT variant, n, MAX(CASE WHEN place = (n * 50 + 99) / 100 THEN took_ms END),
        MAX(CASE WHEN place = (n * 99 + 99) / 100 THEN took_ms END)
    FROM ranked GROUP BY variant, n ORDER BY variant"""


class SqliteEventLog:
    """An `EventLog` in a file (made if needed).

    Writers queue behind a lock within a process and behind SQLite's own between processes; readers have their
    own connections and never wait for writers.

    Args:
        path: The database file.
        join_window: A click or an order counts for an impression until this long after it.
        synchronous: `FULL` syncs every commit to the disk: what was acknowledged survives a power cut;
            `NORMAL` only survives the death of the process, and is faster.

    Raises:
        EventLogError: not an event log, one of a newer version, or not writable.
    """

    def __init__(
        self,
        path: Path,
        join_window: timedelta = timedelta(hours=24),
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
    ) -> None:
        self._path = path
        self._window_us = join_window // _MICROSECOND
        self._lock = threading.RLock()  # a batch's own thread records within it
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._connect()
            try:
                self._prepare(synchronous)
            except BaseException:
                self._writer.close()
                raise

    def record_search(self, search: SearchRecord, impressions: Sequence[Impression]) -> int:
        """See `EventLog.record_search`."""
        row = (
            search.query_id,
            search.user_id,
            _microseconds(search.ts),
            search.variant,
            search.model_version,
            search.took_ms,
            search.results,
            search.degraded,
            search.fallback,
        )
        shown = [_impression_row(impression) for impression in impressions]
        with self._transaction() as connection:
            _insert(connection, "searches", [row])
            return _insert(connection, "impressions", shown)

    def record_impressions(self, impressions: Sequence[Impression]) -> int:
        """See `EventLog.record_impressions`."""
        return self._append("impressions", [_impression_row(impression) for impression in impressions])

    def record_clicks(self, clicks: Sequence[Click]) -> int:
        """See `EventLog.record_clicks`."""
        rows = [
            (click.event_id, click.type, click.query_id, click.item_id, _microseconds(click.ts))
            for click in clicks
        ]
        return self._append("clicks", rows)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """See `EventLog.batch`: all or nothing."""
        with self._transaction():
            yield

    def joined(self, since: datetime | None = None) -> pa.Table:
        """See `EventLog.joined`."""
        return self._table(_JOINED, JOINED_SCHEMA, since)

    def searches(self, since: datetime | None = None) -> pa.Table:
        """See `EventLog.searches`."""
        return self._table(_SEARCHES, SEARCHES_SCHEMA, since)

    def by_query(self, since: datetime | None = None) -> pa.Table:
        """See `EventLog.by_query`."""
        return self._table(sqlite_sums.BY_QUERY, QUERIES_SCHEMA, since)

    def summed_by(
        self, what: SummedBy, since: datetime | None = None, without_users: Collection[str] = ()
    ) -> list[Counted]:
        """See `EventLog.summed_by`."""
        without = json.dumps(sorted(without_users))
        return [Counted(*row) for row in self._rows(sqlite_sums.SUMMED_BY[what], since, without=without)]

    def ctr_over_time(self, bucket_s: int, since: datetime | None = None) -> list[CtrBucket]:
        """See `EventLog.ctr_over_time`."""
        if bucket_s < 1:
            raise EventLogError(f"a bucket of {bucket_s} s is too short: take at least one second")
        rows = self._rows(_CTR, since, bucket=bucket_s * 1_000_000)
        return [CtrBucket(_EPOCH + start * _MICROSECOND, *rest) for start, *rest in rows]

    def funnel(self, since: datetime | None = None) -> list[Funnel]:
        """See `EventLog.funnel`."""
        return [Funnel(*row) for row in self._rows(_FUNNEL, since)]

    def latency(self, since: datetime | None = None) -> list[Latency]:
        """See `EventLog.latency`."""
        return [Latency(*row) for row in self._rows(_LATENCY, since)]

    def close(self) -> None:
        """See `EventLog.close`; a second time does nothing."""
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
            for statement in _TABLES:
                connection.execute(statement)
            found = connection.execute("SELECT MAX(version) FROM schema_version").fetchone()[0]
            if found is None:
                connection.execute("INSERT INTO schema_version VALUES (?)", (_SCHEMA_VERSION,))
            elif found != _SCHEMA_VERSION:
                raise EventLogError(
                    f"the event log {self._path} has schema version {found}, this IMMR reads "
                    f"{_SCHEMA_VERSION}: use the IMMR that wrote it, or another file"
                )

    def _append(self, table: str, rows: list[tuple[Any, ...]]) -> int:
        if not rows:
            return 0
        with self._transaction() as connection:
            return _insert(connection, table, rows)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._explained(), self._lock:
            if self._writer.in_transaction:  # within a batch, which commits
                yield self._writer
                return
            # IMMEDIATE: a transaction that starts as a reader cannot wait its turn to write.
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def _rows(self, sql: str, since: datetime | None, **values: int | str) -> list[tuple[Any, ...]]:
        with self._explained(), closing(self._connect()) as connection:
            return list(self._select(connection, sql, since, **values))

    def _table(self, sql: str, schema: pa.Schema, since: datetime | None) -> pa.Table:
        with self._explained(), closing(self._connect()) as connection:
            cursor = self._select(connection, sql, since)
            batches = []
            while rows := cursor.fetchmany(_ROWS_PER_BATCH):
                batches.append(_batch(rows, schema))
            return pa.Table.from_batches(batches, schema=schema)

    def _select(
        self, connection: sqlite3.Connection, sql: str, since: datetime | None, **values: int | str
    ) -> sqlite3.Cursor:
        start = _microseconds(since) if since is not None else -(2**62)
        named = {"since": start, "window": self._window_us, **values}
        return connection.execute(sql, named)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise EventLogError(
                f"the event log {self._path} failed ({error}): check that it is an event log, that its "
                "folder is writable and the disk not full, and that the log is not closed"
            ) from error


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Journal modes are switched without SQLite's busy wait, so processes that start at once retry."""
    deadline = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _insert(connection: sqlite3.Connection, table: str, rows: Iterable[tuple[Any, ...]]) -> int:
    """Insert what is not there yet; the number of new rows."""
    rows = list(rows)
    if not rows:
        return 0
    marks = ", ".join("?" * len(rows[0]))
    # ON CONFLICT, not OR IGNORE: the latter would also swallow a NULL where none may be.
    cursor = connection.executemany(f"INSERT INTO {table} VALUES ({marks}) ON CONFLICT DO NOTHING", rows)
    return cursor.rowcount


def _impression_row(impression: Impression) -> tuple[Any, ...]:
    return (
        impression.query_id,
        impression.item_id,
        impression.position,
        impression.user_id,
        impression.variant,
        impression.model_version,
        _microseconds(impression.ts),
    )


def _batch(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    arrays = []
    for values, field in zip(columns, schema, strict=True):
        if pa.types.is_boolean(field.type):
            arrays.append(pa.array(map(bool, values), field.type))
        else:
            arrays.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _microseconds(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise EventLogError(f"the time {moment.isoformat()} has no time zone: use datetime.now(UTC)")
    return (moment - _EPOCH) // _MICROSECOND
