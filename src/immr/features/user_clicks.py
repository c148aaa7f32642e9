"""User features from recent clicks, for personal rankers: the rows of the view `user_clicks` (docs/ranking.md)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from immr.data.attributes import CLASS
from immr.storage.database import database
from immr.types import Item

USER_WINDOW = timedelta(days=30)
"""How long a click counts."""
USER_CLICKS = 50
"""The largest number of clicks kept for a user: the newest ones."""
USER_TTL = timedelta(days=7)
"""How long a user's features count after the end of their window, if nothing replaces them."""
MAX_CLICKS = 2_000_000
"""The largest number of clicks kept for all users, the newest ones; it bounds memory and the store."""

CLICKS_BY_USER = pa.schema(
    [
        ("user_id", pa.string()),
        ("query_id", pa.string()),
        ("item_id", pa.string()),
        ("ts", pa.timestamp("us", tz="UTC")),
    ]
)
"""Clicked impressions, each at the time when it was shown."""

USERS_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("items", pa.list_(pa.string())),
        ("categories", pa.list_(pa.string())),
        ("prices", pa.list_(pa.float64())),
        ("attributes", pa.list_(pa.string())),  # JSON
        ("event_timestamp", pa.timestamp("us", tz="UTC")),
    ]
)
"""One row per user with clicks, newest first."""

_SQL = """
WITH known AS (
    SELECT clicks.*, category, price, attributes,
        row_number() OVER (PARTITION BY user_id ORDER BY ts DESC, query_id, item_id) AS place
    FROM clicks JOIN items USING (item_id) WHERE ts > $since AND ts <= $until
),
newest AS (SELECT * FROM known WHERE place <= $clicks ORDER BY ts DESC LIMIT $most)
SELECT user_id, list(item_id ORDER BY place) AS items, list(category ORDER BY place) AS categories,
    list(price ORDER BY place) AS prices, list(attributes ORDER BY place) AS attributes,
    $until::TIMESTAMPTZ AS event_timestamp
FROM newest GROUP BY user_id ORDER BY user_id
"""

CLICKED_IN_LOG = """
SELECT queries.user_id, query_id, item_id, make_timestamp(epoch_us(max(shown.ts))) AS ts
FROM read_parquet($impressions) AS shown JOIN read_parquet($queries) AS queries USING (query_id)
WHERE clicked AND shown.ts > $since AND query_id NOT IN ({without})
    AND queries.user_id NOT IN (SELECT user_id FROM bots) AND queries.user_id <> $anonymous || query_id
GROUP BY queries.user_id, query_id, item_id
QUALIFY row_number() OVER (PARTITION BY queries.user_id ORDER BY max(shown.ts) DESC, query_id, item_id) <= $per_user
ORDER BY max(shown.ts) DESC LIMIT $most
"""
"""`CLICKS_BY_USER` of a click log, without those of bots, anonymous visitors and the queries in `without`."""


def user_clicks(items: Sequence[Item], clicks: pa.Table, now: datetime, most: int = MAX_CLICKS) -> pa.Table:
    """One row per user who clicked an item of the catalogue in the 30 days before `now`.

    Args:
        items: the catalogue.
        clicks: a table of `CLICKS_BY_USER`, without bots.
        now: end of the window, inclusive, with a time zone; becomes `event_timestamp`.
        most: the largest number of clicks of all users.

    Returns:
        A table of `USERS_SCHEMA`.
    """
    values = {"since": now - USER_WINDOW, "until": now, "clicks": USER_CLICKS, "most": most}
    with database() as base:
        base.register("items", _catalogue(items))
        base.register("clicks", clicks.cast(CLICKS_BY_USER))
        found: pa.Table = base.sql(_SQL, params=values).to_arrow_table()
    return found.cast(USERS_SCHEMA)


def age_warning(newest: datetime, now: datetime | None = None) -> str:
    """A sentence if the newest event is so old that searches ignore features of users; else empty."""
    if (now or datetime.now(UTC)) - newest <= USER_TTL:
        return ""
    return (
        f"searches ignore features of users, because the newest event is of {newest:%Y-%m-%d}, more than "
        f"{USER_TTL.days} days ago"
    )


def _catalogue(items: Sequence[Item]) -> pa.Table:
    attributes = [
        json.dumps({name: value for name, value in item.attributes.items() if name != CLASS})
        for item in items
    ]
    return pa.table(
        {
            "item_id": pa.array([item.item_id for item in items], pa.string()),
            "category": pa.array([item.category for item in items], pa.string()),
            "price": pa.array([item.price for item in items], pa.float64()),
            "attributes": pa.array(attributes, pa.string()),
        }
    )
