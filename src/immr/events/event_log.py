"""What the rest of IMMR asks of an event log."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

import pyarrow as pa

from immr.events.aggregates import Counted, CtrBucket, Funnel, Latency, SummedBy
from immr.types import Click, Impression, SearchRecord

_TS = pa.timestamp("us", tz="UTC")

JOINED_SCHEMA = pa.schema(
    [
        ("query_id", pa.string()),
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("position", pa.int64()),
        ("clicked", pa.bool_()),
        ("ordered", pa.bool_()),
        ("variant", pa.string()),
        ("model_version", pa.string()),
        ("ts", _TS),
    ]
)
"""The contract's `impressions` columns and user_id."""

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
    ]
)
"""The fields of `SearchRecord`."""


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
        ("clicked_positions", pa.int64()),  # summed up, each position as 10 at most
    ]
)
"""One row per query that showed something: its impressions and what came of them, summed up."""


class EventLog(Protocol):
    """An append-only log, safe to share between threads. After a `record` returns, nothing is lost;
    within a `batch`, after the batch.

    Times are aware of their zone. A click may come before its impression is known; it joins later.
    """

    def record_search(self, search: SearchRecord, impressions: Sequence[Impression]) -> int:
        """Append a search and what it showed, both or neither. Returns the new impressions.

        Raises:
            EventLogError: the log does not take it.
        """

    def record_impressions(self, impressions: Sequence[Impression]) -> int:
        """Append; those already there (same query, item and position) are left out. Returns the new ones."""

    def record_clicks(self, clicks: Sequence[Click]) -> int:
        """Append clicks and orders; a repeated event_id is left out. Returns the new ones."""

    def batch(self) -> AbstractContextManager[None]:
        """What this thread records within is committed together, at the end: one wait for many events.

        An error within takes all of it back, or leaves a part that may be recorded again.

        Raises:
            EventLogError: the log does not take it.
        """

    def joined(self, since: datetime | None = None) -> pa.Table:
        """Impressions from `since` on with what came of them, by `JOINED_SCHEMA`, in the order of time.

        An order implies its click; what comes later than the log's join window is left out.
        """

    def searches(self, since: datetime | None = None) -> pa.Table:
        """Searches from `since` on, by `SEARCHES_SCHEMA`, in the order of time."""

    def by_query(self, since: datetime | None = None) -> pa.Table:
        """The same summed up by query, by `QUERIES_SCHEMA`, in no order."""

    def summed_by(
        self, what: SummedBy, since: datetime | None = None, without_users: Collection[str] = ()
    ) -> list[Counted]:
        """Impressions and clicks by variant, model version and position or item, in the order of these."""

    def ctr_over_time(self, bucket_s: int, since: datetime | None = None) -> list[CtrBucket]:
        """Impressions and clicks by time, variant and model version; empty buckets are left out."""

    def funnel(self, since: datetime | None = None) -> list[Funnel]:
        """From queries to orders, by variant."""

    def latency(self, since: datetime | None = None) -> list[Latency]:
        """How long searches took, by variant."""

    def close(self) -> None:
        """Flush and let go."""
