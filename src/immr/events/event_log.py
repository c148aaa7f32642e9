"""The port of the event log, and the columns of its tables."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Literal, Protocol

import pyarrow as pa

from immr.events.aggregates import Counted, CtrBucket, Funnel, Latency, SummedBy
from immr.types import Click, Impression, SearchRecord

_TS = pa.timestamp("us", tz="UTC")

Shown = tuple[SearchRecord, Sequence[Impression]]
"""A search and what it showed."""

JOINED_SCHEMA = pa.schema(
    [
        ("query_id", pa.string()),
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("position", pa.int64()),
        ("clicked", pa.bool_()),
        ("ordered", pa.bool_()),
        ("amount", pa.float64()),  # of the order; null without one, or if none was sent
        ("variant", pa.string()),
        ("model_version", pa.string()),
        ("ts", _TS),
    ]
)
"""The columns of `impressions` in the data contract, user_id, and amount."""

SEARCHES_SCHEMA = pa.schema(
    [
        ("query_id", pa.string()),
        ("user_id", pa.string()),
        ("ts", _TS),
        ("variant", pa.string()),
        ("model_version", pa.string()),
        ("took_ms", pa.float64()),
        ("results", pa.int64()),
        ("degraded", pa.bool_()),
        ("fallback", pa.bool_()),
        ("context", pa.string()),
    ]
)
"""The fields of `SearchRecord`."""

CLICKS_SCHEMA = pa.schema(
    [
        ("event_id", pa.string()),
        ("type", pa.string()),  # click or order
        ("query_id", pa.string()),
        ("item_id", pa.string()),
        ("ts", _TS),
        ("amount", pa.float64()),
    ]
)
"""The fields of `Click`."""

CLICKED_SCHEMA = pa.schema(
    [("user_id", pa.string()), ("query_id", pa.string()), ("item_id", pa.string()), ("ts", _TS)]
)
"""Clicked impressions, each once, at the time when it was shown."""

QUERIES_SCHEMA = pa.schema(
    [
        ("query_id", pa.string()),
        ("user_id", pa.string()),
        ("variant", pa.string()),
        ("model_version", pa.string()),
        ("ts", _TS),
        ("impressions", pa.int64()),
        ("clicks", pa.int64()),
        ("orders", pa.int64()),
        ("first_impressions", pa.int64()),  # at position 1
        ("first_clicks", pa.int64()),
        ("clicked_positions", pa.int64()),  # the sum of min(position, 10) over the clicked impressions
        ("revenue", pa.float64()),  # the sum of the orders' amounts
        ("priced_orders", pa.int64()),  # orders with an amount
    ]
)
"""One row per query with impressions: sums over them."""

EventTable = Literal["impressions", "searches", "clicks", "queries"]
SCHEMAS: Mapping[EventTable, pa.Schema] = {
    "impressions": JOINED_SCHEMA,
    "searches": SEARCHES_SCHEMA,
    "clicks": CLICKS_SCHEMA,
    "queries": QUERIES_SCHEMA,
}
"""The tables that `EventLog.batches` reads, and their columns."""


class EventLog(Protocol):
    """An append-only log, safe to share between threads.

    Events are durable once a `record_…` method returns or, within a `batch`, once the batch ends. All times
    carry a time zone. A click may arrive before its impression and joins it later.
    """

    def record_search(self, search: SearchRecord, impressions: Sequence[Impression]) -> int:
        """Append a search and its impressions atomically.

        Returns:
            The number of impressions that were new.

        Raises:
            EventRefusedError: A value is missing or a time has no zone; sending it again will not help.
            EventLogError: The log is not available.
        """

    def record_impressions(self, impressions: Sequence[Impression]) -> int:
        """Append impressions, except known ones (same query, item, position); returns how many were new."""

    def record_clicks(self, clicks: Sequence[Click]) -> int:
        """Append clicks and orders, except those with a known event_id; returns how many were new."""

    def record_all(self, searches: Sequence[Shown], clicks: Sequence[Sequence[Click]]) -> list[int]:
        """Append searches with their impressions, and groups of clicks, all together.

        After an error, part of them may have been recorded; recording all of them again is safe.

        Returns:
            How many clicks of each group were new.

        Raises:
            EventRefusedError: The log will never accept one of the events.
            EventLogError: The log is not available.
        """

    def batch(self) -> AbstractContextManager[None]:
        """Commit everything that this thread records within the block together, at its end.

        After an error, part of the batch may have been recorded; recording all of it again is safe.

        Raises:
            EventRefusedError: The log will never accept one of the events.
            EventLogError: The log is not available.
        """

    def batches(
        self, table: EventTable, since: datetime | None = None
    ) -> Generator[pa.RecordBatch, None, None]:
        """The rows of `joined` (impressions), `searches`, `clicks` or `by_query` (queries), in their order.

        The caller holds one batch at a time, however long the log is: `sink.on_disk` makes files of them. The methods
        named here hold all rows. Close the generator if it is not read to its end.

        Raises:
            EventLogError: The log is not available.
        """

    def joined(self, since: datetime | None = None) -> pa.Table:
        """Impressions since `since`, with the columns of `JOINED_SCHEMA`, sorted by time.

        An ordered impression also counts as clicked. Clicks and orders after the log's join window do not
        count. Of several orders of an impression, the first one's amount counts.
        """

    def searches(self, since: datetime | None = None) -> pa.Table:
        """Searches since `since`, with the columns of `SEARCHES_SCHEMA`, sorted by time."""

    def clicks(self, since: datetime | None = None) -> pa.Table:
        """Clicks and orders since `since`, with the columns of `CLICKS_SCHEMA`, sorted by time."""

    def recent_clicks(
        self, per_user: int, most: int, since: datetime | None = None, without_users: Collection[str] = ()
    ) -> pa.Table:
        """Impressions that were clicked or ordered, with the columns of `CLICKED_SCHEMA`, newest first.

        Args:
            per_user: the largest number for each user.
            most: the largest number for all users.
            since: of the impressions.
            without_users: user ids to leave out; users of searches without a user id always are.
        """

    def by_query(self, since: datetime | None = None) -> pa.Table:
        """Impressions, clicks and orders per query, with the columns of `QUERIES_SCHEMA`, in any order."""

    def summed_by(
        self,
        what: SummedBy,
        since: datetime | None = None,
        without_users: Collection[str] = (),
        until: datetime | None = None,
    ) -> list[Counted]:
        """Impressions and clicks by variant, model version and position or item, sorted by these.

        Args:
            what: position or item.
            since: of the impressions.
            without_users: user ids to leave out.
            until: of the impressions; that time included.
        """

    def ctr_over_time(self, bucket_s: int, since: datetime | None = None) -> list[CtrBucket]:
        """Impressions and clicks by time, variant and model version; empty buckets are omitted."""

    def period(
        self, without_variants: Collection[str] = (), since: datetime | None = None
    ) -> tuple[datetime, datetime] | None:
        """Times of the first and the last impression of all other variants; None if there are none."""

    def funnel(self, since: datetime | None = None) -> list[Funnel]:
        """The funnel from queries to orders, by variant."""

    def latency(self, since: datetime | None = None) -> list[Latency]:
        """Duration of the searches, by variant."""

    def close(self) -> None:
        """Flush and release files and connections. May be called twice."""
