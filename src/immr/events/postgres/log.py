"""PostgreSQL as the event log: any number of gateways write to it, and every pod can read it."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from immr.errors import EventLogError, EventRefusedError
from immr.events.event_log import Shown
from immr.events.postgres import queries
from immr.events.postgres.url import PostgresUrl
from immr.events.sql import Row, SqlReports, aware, batches_of, click_row, impression_row, search_row
from immr.types import Click, Impression, SearchRecord

if TYPE_CHECKING:
    from psycopg import Connection, Cursor

_SCHEMA_VERSION = 2
_CREATION_LOCK = 0x696D6D72  # "immr": an advisory lock, because CREATE ... IF NOT EXISTS can race
_ALWAYS = "-infinity"


class PostgresEventLog(SqlReports):
    """An `EventLog` in a schema of a PostgreSQL database; the tables are created by the first write or read.

    Threads share one connection for writing, which is reopened after it broke. Each read has its own, sees one
    snapshot, and never waits for writers.

    Args:
        url: See `PostgresUrl`.
        join_window: A click or an order counts for an impression until this long after it.

    Raises:
        SettingsError: The URL is wrong.
    """

    _queries = queries

    def __init__(self, url: str, join_window: timedelta = timedelta(hours=24)) -> None:
        self._url = PostgresUrl.parse(url)
        self._window = join_window
        self._lock = threading.RLock()  # re-entrant, for the thread that records within its batch
        self._writer: Connection | None = None
        self._prepared = False
        self._closed = False

    def record_search(self, search: SearchRecord, impressions: Sequence[Impression]) -> int:
        """See `EventLog.record_search`."""
        with self._transaction() as connection:
            _insert(connection, queries.RECORD_SEARCHES, [search_row(search, aware)])
            return _insert(connection, queries.RECORD_IMPRESSIONS, _shown(impressions)).rowcount

    def record_impressions(self, impressions: Sequence[Impression]) -> int:
        """See `EventLog.record_impressions`."""
        with self._transaction() as connection:
            return _insert(connection, queries.RECORD_IMPRESSIONS, _shown(impressions)).rowcount

    def record_clicks(self, clicks: Sequence[Click]) -> int:
        """See `EventLog.record_clicks`."""
        [new] = self.record_all([], [clicks])
        return new

    def record_all(self, searches: Sequence[Shown], clicks: Sequence[Sequence[Click]]) -> list[int]:
        """See `EventLog.record_all`; one statement per table."""
        shown = _shown([each for _, impressions in searches for each in impressions])
        clicked = [click_row(click, aware) for group in clicks for click in group]
        with self._transaction() as connection:
            _insert(
                connection, queries.RECORD_SEARCHES, [search_row(search, aware) for search, _ in searches]
            )
            _insert(connection, queries.RECORD_IMPRESSIONS, shown)
            new = {event_id for (event_id,) in _insert(connection, queries.RECORD_CLICKS, clicked)}
        counts = []
        for group in clicks:
            counts.append(len(new & {click.event_id for click in group}))
            new -= {click.event_id for click in group}  # a repeat in a later group is not new
        return counts

    @contextmanager
    def batch(self) -> Iterator[None]:
        """See `EventLog.batch`; an error rolls back the whole batch."""
        with self._transaction():
            yield

    def close(self) -> None:
        """See `EventLog.close`."""
        with self._lock:
            self._closed = True
            if self._writer is not None:
                self._writer.close()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """Within a batch, part of the batch's transaction."""
        with self._translate_errors(), self._lock:
            if self._closed:
                raise EventLogError("the event log is closed: open it again")
            if self._writer is None or self._writer.closed:
                self._writer = self._connect()
            with self._writer.transaction():
                yield self._writer

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        from psycopg import IsolationLevel

        with self._translate_errors(), self._connect() as connection:
            connection.read_only = True
            connection.isolation_level = IsolationLevel.REPEATABLE_READ
            with connection.transaction():
                yield connection

    def _connect(self) -> Connection:
        import psycopg

        # conninfo "": everything is in the parameters
        connection = psycopg.connect("", autocommit=True, **self._url.parameters)  # type: ignore[arg-type]
        try:
            if not self._prepared:
                self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: Connection) -> None:
        """Create the tables unless they exist, and check their version."""
        from psycopg import sql

        def exists() -> bool:
            # not to_regclass, which may answer from a cache that is older than the lock
            query = "SELECT FROM pg_tables WHERE schemaname = %s AND tablename = 'schema_version'"
            return connection.execute(query, [self._url.schema]).fetchone() is not None

        if not exists():
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", [_CREATION_LOCK])
                if not exists():
                    schema = sql.Identifier(self._url.schema)
                    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema))
                    connection.execute(queries.TABLES)
                    connection.execute("INSERT INTO schema_version VALUES (%s)", [_SCHEMA_VERSION])
        if (stored := _stored_version(connection)) in queries.MIGRATIONS:
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", [_CREATION_LOCK])
                stored = _migrate(connection)
        if stored != _SCHEMA_VERSION:
            raise EventLogError(
                f"the event log {self._url.shown} has schema version {stored}, but this release of IMMR "
                f"reads version {_SCHEMA_VERSION}: use the release that wrote it, or another schema= in the URL"
            )
        self._prepared = True

    def _rows(self, query: str, since: datetime | None, **values: int | list[str]) -> list[Row]:
        with self._reading() as connection:
            return connection.execute(query, self._values(since) | values).fetchall()

    def _batches(
        self, query: str, schema: pa.Schema, since: datetime | None, **values: int | list[str]
    ) -> Generator[pa.RecordBatch, None, None]:
        with self._reading() as connection, connection.cursor("immr", binary=True) as cursor:
            cursor.execute(query, self._values(since) | values)
            yield from batches_of(cursor, schema)

    def _values(self, since: datetime | None) -> dict[str, Any]:
        return {"since": _ALWAYS if since is None else aware(since), "window": self._window}

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        import psycopg

        try:
            yield
        except (psycopg.IntegrityError, psycopg.DataError, OverflowError, UnicodeEncodeError) as error:
            raise EventRefusedError(
                f"the event log {self._url.shown} refuses an event ({_first_line(error)}): give each field a "
                "value of its type"
            ) from error
        except (psycopg.Error, OSError) as error:
            raise EventLogError(
                f"the event log {self._url.shown} failed ({_first_line(error)}): check that PostgreSQL is "
                "running, and the user, database and password (PGPASSWORD) of IMMR_EVENTS_URL"
            ) from error


def _stored_version(connection: Connection) -> int | None:
    row = connection.execute("SELECT max(version) FROM schema_version").fetchone()
    return row[0] if row else None


def _migrate(connection: Connection) -> int | None:
    """Bring the tables to this release's version, unless another process did meanwhile; returns their version."""
    while (stored := _stored_version(connection)) in queries.MIGRATIONS:
        connection.execute(queries.MIGRATIONS[stored])
        connection.execute("UPDATE schema_version SET version = version + 1")
    return stored


def _insert(connection: Connection, statement: str, rows: Iterable[Row]) -> Cursor[Any]:
    """Insert the rows that do not exist yet, sorted, so that two gateways never wait for each other in a circle."""
    columns = [list(column) for column in zip(*sorted(rows, key=_sort_key), strict=True)]
    return connection.execute(statement, columns or [[]] * statement.count("%s"))


def _sort_key(row: Row) -> tuple[str, ...]:
    return tuple(map(str, row[:3]))  # at most three columns identify a row


def _shown(impressions: Iterable[Impression]) -> list[Row]:
    return [impression_row(each, aware) for each in impressions]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
