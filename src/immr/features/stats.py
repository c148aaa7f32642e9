"""What shoppers did with each item in the last days: the rows of the feature store. Pure; no clock inside."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from immr.errors import ContractError
from immr.types import Item

PRIOR_IMPRESSIONS = 20.0
"""Strength of the CTR's prior: an item starts as if it had been shown so often, at the mean CTR (ours)."""

_TS = pa.timestamp("us", tz="UTC")

SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("price", pa.float64()),
        ("category", pa.string()),
        ("impressions_7d", pa.int64()),
        ("clicks_7d", pa.int64()),
        ("ctr_7d", pa.float64()),
        ("stock", pa.float64()),
        ("updated_at", pa.timestamp("us", tz="UTC")),
        ("event_timestamp", pa.timestamp("us", tz="UTC")),
    ]
)

COLUMNS: tuple[str, ...] = tuple(SCHEMA.names)

_SQL = """
WITH counted AS (
    SELECT item_id, count(*) AS impressions, count(*) FILTER (WHERE clicked) AS clicks
    FROM impressions
    WHERE ts > $since AND ts <= $until
    GROUP BY item_id
),
joined AS (
    SELECT items.item_id, items.price, items.category, items.stock, items.updated_at,
           coalesce(counted.impressions, 0) AS impressions, coalesce(counted.clicks, 0) AS clicks
    FROM items LEFT JOIN counted USING (item_id)
),
overall AS (
    SELECT coalesce(sum(clicks) / nullif(sum(impressions), 0), 0.0) AS ctr FROM joined
)
SELECT item_id, price, category, impressions AS impressions_7d, clicks AS clicks_7d,
       (clicks + $prior * overall.ctr) / (impressions + $prior) AS ctr_7d, stock, updated_at
FROM joined, overall
ORDER BY item_id
"""


def item_stats(
    items: pa.Table | Sequence[Item], impressions: pa.Table, now: datetime, days: int = 7
) -> pa.Table:
    """One row per item of the catalogue, in item_id order, seen or not.

    The CTR is the mean of a beta posterior, (clicks + m·c) / (impressions + m), where c is the CTR of all
    items together in the window and m = `PRIOR_IMPRESSIONS`. It is not corrected for position.

    Args:
        items: the contract's items.
        impressions: the contract's impressions; a `ts` without a time zone is read as UTC.
        now: end of the window, inclusive, with a time zone; becomes `event_timestamp`.
        days: length of the window.

    Returns:
        A table of `SCHEMA`. Columns are named for the default of 7 days.

    Raises:
        ContractError: `now` has no time zone, a column is missing, or an item_id is there twice.
    """
    if now.tzinfo is None:
        raise ContractError(f"now={now.isoformat()} has no time zone: pass datetime.now(UTC)")
    catalogue = _catalogue(items)
    until = now.astimezone(UTC).replace(tzinfo=None)
    values = {"since": until - timedelta(days=days), "until": until, "prior": PRIOR_IMPRESSIONS}
    counted = _query(catalogue, _events(impressions), values)
    # pyarrow drops a fixed offset once pandas is imported, so the zone is settled here
    moments = pa.array([now.astimezone(UTC)] * len(counted), pa.timestamp("us", tz="UTC"))
    return counted.append_column("event_timestamp", moments).cast(SCHEMA)


def _query(items: pa.Table, impressions: pa.Table, values: dict[str, object]) -> pa.Table:
    import duckdb

    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("items", items)
        connection.register("impressions", impressions)
        table: pa.Table = connection.sql(_SQL, params=values).to_arrow_table()
    return table


def _catalogue(items: pa.Table | Sequence[Item]) -> pa.Table:
    if not isinstance(items, pa.Table):
        items = pa.table(
            {
                "item_id": pa.array([item.item_id for item in items], pa.string()),
                "price": pa.array([item.price for item in items], pa.float64()),
                "category": pa.array([item.category for item in items], pa.string()),
                "stock": pa.array([item.stock for item in items], pa.float64()),
                "updated_at": pa.array([item.updated_at for item in items], _TS),
            }
        )
    if "stock" not in items.column_names:
        items = items.append_column("stock", pa.nulls(len(items), pa.float64()))
    catalogue = _only(items, ["item_id", "price", "category", "stock", "updated_at"], "items")
    catalogue = catalogue.set_column(
        4, "updated_at", catalogue["updated_at"].cast(_TS).cast(pa.timestamp("us"))
    )
    if len(catalogue["item_id"].unique()) < len(catalogue):
        raise ContractError("an item_id occurs twice in the items table: run `immr govern`")
    return catalogue


def _events(impressions: pa.Table) -> pa.Table:
    events = _only(impressions, ["item_id", "clicked", "ts"], "impressions")
    as_utc = events["ts"].cast(pa.timestamp("us", tz="UTC")).cast(pa.timestamp("us"))
    return events.set_column(2, "ts", as_utc)


def _only(table: pa.Table, columns: list[str], name: str) -> pa.Table:
    if missing := [column for column in columns if column not in table.column_names]:
        raise ContractError(
            f"the {name} table has no column {', '.join(missing)}: it must keep the data contract"
        )
    return table.select(columns)
