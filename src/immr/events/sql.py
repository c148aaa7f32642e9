"""What the event logs in SQL databases share: reports, and rows in the order of the tables' columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pyarrow as pa

from immr.errors import EventLogError, EventRefusedError
from immr.events.aggregates import Counted, CtrBucket, Funnel, Latency, SummedBy
from immr.events.event_log import (
    CLICKED_SCHEMA,
    SCHEMAS,
    EventTable,
)
from immr.types import Click, Impression, SearchRecord

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
_ROWS_PER_BATCH = 50_000
_FOREVER = 2**62  # microseconds

Row = tuple[Any, ...]


class Queries(Protocol):
    """A module with one database's queries, whose columns are those of the schemas and aggregates."""

    JOINED: str
    SEARCHES: str
    CLICKS: str
    RECENT_CLICKS: str
    BY_QUERY: str
    SUMMED_BY: dict[str, str]
    CTR_OVER_TIME: str
    PERIOD: str
    FUNNEL: str
    LATENCY: str


class Fetching(Protocol):
    """A cursor with a result (PEP 249)."""

    def fetchmany(self, size: int, /) -> list[Any]:
        """The next rows; none at the end."""


class SqlReports(ABC):
    """The half of `EventLog` that reads."""

    _queries: Queries

    @abstractmethod
    def _batches(
        self, query: str, schema: pa.Schema, since: datetime | None, **values: int | list[str]
    ) -> Generator[pa.RecordBatch, None, None]:
        """The result of a query with these parameters, `since` and `window`, see `batches_of`."""

    @abstractmethod
    def _rows(self, query: str, since: datetime | None, **values: int | list[str]) -> list[Row]:
        """The rows of a query with these parameters too."""

    def batches(
        self, table: EventTable, since: datetime | None = None
    ) -> Generator[pa.RecordBatch, None, None]:
        """See `EventLog.batches`."""
        query = {
            "impressions": self._queries.JOINED,
            "searches": self._queries.SEARCHES,
            "clicks": self._queries.CLICKS,
            "queries": self._queries.BY_QUERY,
        }[table]
        return self._batches(query, SCHEMAS[table], since)

    def joined(self, since: datetime | None = None) -> pa.Table:
        """See `EventLog.joined`."""
        return self._whole("impressions", since)

    def searches(self, since: datetime | None = None) -> pa.Table:
        """See `EventLog.searches`."""
        return self._whole("searches", since)

    def clicks(self, since: datetime | None = None) -> pa.Table:
        """See `EventLog.clicks`."""
        return self._whole("clicks", since)

    def recent_clicks(
        self, per_user: int, most: int, since: datetime | None = None, without_users: Collection[str] = ()
    ) -> pa.Table:
        """See `EventLog.recent_clicks`."""
        without = sorted(without_users)
        batches = self._batches(
            self._queries.RECENT_CLICKS, CLICKED_SCHEMA, since, per_user=per_user, most=most, without=without
        )
        return pa.Table.from_batches(batches, schema=CLICKED_SCHEMA)

    def by_query(self, since: datetime | None = None) -> pa.Table:
        """See `EventLog.by_query`."""
        return self._whole("queries", since)

    def summed_by(
        self,
        what: SummedBy,
        since: datetime | None = None,
        without_users: Collection[str] = (),
        until: datetime | None = None,
    ) -> list[Counted]:
        """See `EventLog.summed_by`."""
        end = _FOREVER if until is None else microseconds(until)
        rows = self._rows(self._queries.SUMMED_BY[what], since, without=sorted(without_users), until=end)
        return [Counted(*row) for row in rows]

    def ctr_over_time(self, bucket_s: int, since: datetime | None = None) -> list[CtrBucket]:
        """See `EventLog.ctr_over_time`."""
        if bucket_s < 1:
            raise EventLogError(f"bucket_s is {bucket_s}: use at least one second")
        rows = self._rows(self._queries.CTR_OVER_TIME, since, bucket=bucket_s * 1_000_000)
        return [CtrBucket(EPOCH + start * MICROSECOND, *rest) for start, *rest in rows]

    def period(
        self, without_variants: Collection[str] = (), since: datetime | None = None
    ) -> tuple[datetime, datetime] | None:
        """See `EventLog.period`."""
        [(first, last)] = self._rows(self._queries.PERIOD, since, without=sorted(without_variants))
        return None if first is None else (EPOCH + first * MICROSECOND, EPOCH + last * MICROSECOND)

    def funnel(self, since: datetime | None = None) -> list[Funnel]:
        """See `EventLog.funnel`."""
        return [Funnel(*row) for row in self._rows(self._queries.FUNNEL, since)]

    def latency(self, since: datetime | None = None) -> list[Latency]:
        """See `EventLog.latency`."""
        return [Latency(*row) for row in self._rows(self._queries.LATENCY, since)]

    def _whole(self, table: EventTable, since: datetime | None) -> pa.Table:
        return pa.Table.from_batches(self.batches(table, since), schema=SCHEMAS[table])


def batches_of(cursor: Fetching, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of a cursor; times are microseconds since 1970, booleans may be 0 and 1."""
    while rows := cursor.fetchmany(_ROWS_PER_BATCH):
        yield _batch(rows, schema)


def search_row(search: SearchRecord, time: Callable[[datetime], Any]) -> Row:
    """A row of the table `searches`, with times as the database takes them."""
    return (
        search.query_id,
        search.user_id,
        time(search.ts),
        search.variant,
        search.model_version,
        search.took_ms,
        search.results,
        search.degraded,
        search.fallback,
        search.context,
    )


def impression_row(impression: Impression, time: Callable[[datetime], Any]) -> Row:
    """A row of the table `impressions`."""
    return (
        impression.query_id,
        impression.item_id,
        impression.position,
        impression.user_id,
        impression.variant,
        impression.model_version,
        time(impression.ts),
    )


def click_row(click: Click, time: Callable[[datetime], Any]) -> Row:
    """A row of the table `clicks`."""
    return (click.event_id, click.type, click.query_id, click.item_id, time(click.ts), click.amount)


def aware(moment: datetime) -> datetime:
    """The same time.

    Raises:
        EventRefusedError: The time has no time zone.
    """
    if moment.tzinfo is None:
        raise EventRefusedError(f"the time {moment.isoformat()} has no time zone: use datetime.now(UTC)")
    return moment


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970.

    Raises:
        EventRefusedError: The time has no time zone.
    """
    return (aware(moment) - EPOCH) // MICROSECOND


def _batch(rows: Sequence[Row], schema: pa.Schema) -> pa.RecordBatch:
    arrays = []
    for values, field in zip(zip(*rows, strict=True), schema, strict=True):
        is_boolean = pa.types.is_boolean(field.type)
        arrays.append(pa.array(map(bool, values) if is_boolean else values, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
