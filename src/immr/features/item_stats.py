"""Item features from seven days of impressions and clicks: the rows of the feature store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from immr.errors import ContractError
from immr.storage.database import database
from immr.types import Item

PRIOR_IMPRESSIONS = 20.0
"""Strength of the CTR's prior: an item starts as if it had been shown this often, at the mean CTR (ours)."""

WINDOW = timedelta(days=7)

MOST_OFFLINE = 2_000_000
"""Rows of the offline source: a push adds one for each item, and has to read and write all of them."""

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

COUNTS_SCHEMA = pa.schema([("item_id", pa.string()), ("impressions", pa.int64()), ("clicks", pa.int64())])
"""Impressions and clicks by item; an item may have several rows."""

_SQL = """
WITH logged AS (
    SELECT item_id, count(*) AS impressions, count(*) FILTER (WHERE clicked) AS clicks
    FROM (SELECT query_id, item_id, clicked, make_timestamp(epoch_us(ts)) AS ts FROM {impressions})
    ANTI JOIN {without} AS left_out USING (query_id)
    WHERE ts > $since AND ts <= $until
    GROUP BY item_id
),
counted AS (
    SELECT item_id, sum(impressions) AS impressions, sum(clicks) AS clicks
    FROM (SELECT * FROM logged UNION ALL SELECT * FROM live) GROUP BY item_id
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
    items: pa.Table | Sequence[Item],
    impressions: pa.Table | Path,
    now: datetime,
    window: timedelta = WINDOW,
    live: pa.Table | None = None,
    without_queries: pa.Table | Sequence[Path] | None = None,
) -> pa.Table:
    """One row per item of the catalogue, shown or not, in item_id order.

    The CTR is the mean of a beta posterior, (clicks + m·c) / (impressions + m), where c is the CTR of all
    items in the window and m = `PRIOR_IMPRESSIONS`. It is not corrected for position. Memory grows with the
    items, not with the impressions of a file.

    Args:
        items: the contract's items.
        impressions: the contract's impressions, as a table or a Parquet file; a `ts` without a time zone is
            read as UTC.
        now: end of the window, inclusive, with a time zone; becomes `event_timestamp`.
        window: its length; the columns are named for the default.
        live: counts by `COUNTS_SCHEMA` from elsewhere to be added.
        without_queries: a table, or Parquet files, with a column query_id; impressions of these queries are left out.

    Returns:
        A table of `SCHEMA`.

    Raises:
        ContractError: `now` has no time zone, a column is missing, or an item_id occurs twice.
    """
    if now.tzinfo is None:
        raise ContractError(f"now={now.isoformat()} has no time zone: pass datetime.now(UTC)")
    catalogue = _catalogue(items)
    until = now.astimezone(UTC).replace(tzinfo=None)
    tables = {
        "items": catalogue,
        "live": COUNTS_SCHEMA.empty_table() if live is None else live.cast(COUNTS_SCHEMA),
    }
    values: dict[str, object] = {"since": until - window, "until": until, "prior": PRIOR_IMPRESSIONS}
    if without_queries is None or isinstance(without_queries, pa.Table):
        without = "without_queries"
        tables[without] = _no_queries() if without_queries is None else without_queries.select(["query_id"])
    else:
        without = "read_parquet($without, union_by_name = true)"
        values["without"] = [str(file) for file in without_queries]
    if isinstance(impressions, Path):
        source = "read_parquet($file)"
        values["file"] = str(impressions)
    else:
        source = "impressions"
        tables[source] = _only(impressions, ["query_id", "item_id", "clicked", "ts"], "impressions")
    counted = _query(tables, _SQL.format(impressions=source, without=without), values)
    # pyarrow drops a fixed offset once pandas is imported, so the time is converted to UTC here
    moments = pa.array([now.astimezone(UTC)] * len(counted), pa.timestamp("us", tz="UTC"))
    return counted.append_column("event_timestamp", moments).cast(SCHEMA)


def checked(stats: pa.Table) -> pa.Table:
    """A table with the columns and types of `SCHEMA`.

    Raises:
        ContractError: The table has other columns or types.
    """
    try:
        return stats.select(list(COLUMNS)).cast(SCHEMA).combine_chunks()
    except (KeyError, ValueError, pa.ArrowException) as error:
        raise ContractError(
            f"the table of item features does not fit ({error}): make it with immr.features.item_stats.item_stats"
        ) from error


def appended(older: pa.Table, rows: pa.Table, most: int = MOST_OFFLINE) -> pa.Table:
    """The newest `most` of both, in order, but at least `rows`; older ones may lack newer columns."""
    both = pa.concat_tables([older, rows], promote_options="default")
    return both.slice(max(0, len(both) - max(most, len(rows))))


def _query(tables: dict[str, pa.Table], sql: str, values: dict[str, object]) -> pa.Table:
    with database() as connection:
        for name, table in tables.items():
            connection.register(name, table)
        found: pa.Table = connection.sql(sql, params=values).to_arrow_table()
    return found


def _no_queries() -> pa.Table:
    return pa.table({"query_id": pa.array([], pa.string())})


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


def _only(table: pa.Table, columns: list[str], name: str) -> pa.Table:
    if missing := [column for column in columns if column not in table.column_names]:
        raise ContractError(
            f"the {name} table has no column {', '.join(missing)}: it must meet the data contract"
        )
    return table.select(columns)
