"""A click log as arrays: what each query was shown, and what was clicked. Bots are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from immr.errors import RankingError
from immr.features.item_stats import item_stats
from immr.readout.bots import DEFAULT_BOT_POLICY, mark_bots
from immr.storage.database import database
from immr.types import Item, ItemFeatures

if TYPE_CHECKING:
    import duckdb

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)

_QUERIES = """CREATE TEMP TABLE queries AS
    SELECT query_id, any_value(asked.user_id) AS user_id, any_value(asked.image) AS image,
        make_timestamp(epoch_us(any_value(asked.ts))) AS ts, count(*) FILTER (clicked) AS clicks
    FROM read_parquet($shown) shown JOIN read_parquet($asked) asked USING (query_id)
    GROUP BY query_id"""

_NEWEST = """CREATE TEMP TABLE newest AS
    SELECT *, row_number() OVER (ORDER BY ts, query_id) - 1 AS query FROM (
        SELECT queries.* FROM queries ANTI JOIN bots USING (user_id)
        ORDER BY ts DESC, query_id LIMIT $max_queries)"""

_SHOWN = """SELECT query, row - 1 AS item, position, clicked
    FROM read_parquet($shown) JOIN newest USING (query_id) JOIN items USING (item_id)
    ORDER BY query, position, item"""


@dataclass(frozen=True)
class ClickLog:
    """Impressions, sorted by query and position; queries are sorted by time.

    Shapes: R impressions, Q queries. Items are rows of the catalogue that the log was read with; impressions
    of other items are left out.
    """

    query_R: Ints
    item_R: Ints
    position_R: Ints  # from 1
    clicked_R: Bools
    user_Q: npt.NDArray[np.str_]
    time_Q: Ints  # microseconds since 1970
    photo_Q: Sequence[str]
    impressions: Path  # the whole log
    of_bots: pa.Table  # query_id of queries by bots

    @property
    def starts_Q(self) -> Ints:
        """(Q + 1,) first impression of each query, and the number of impressions."""
        return np.searchsorted(self.query_R, np.arange(len(self.user_Q) + 1))

    @property
    def day_Q(self) -> Ints:
        """(Q,) days since 1970."""
        return self.time_Q // (DAY // _MICROSECOND)

    def only(self, kept_Q: Bools) -> ClickLog:
        """The log restricted to some of its queries."""
        kept_R = kept_Q[self.query_R]
        return replace(
            self,
            query_R=(np.cumsum(kept_Q) - 1)[self.query_R[kept_R]],
            item_R=self.item_R[kept_R],
            position_R=self.position_R[kept_R],
            clicked_R=self.clicked_R[kept_R],
            user_Q=self.user_Q[kept_Q],
            time_Q=self.time_Q[kept_Q],
            photo_Q=[photo for photo, kept in zip(self.photo_Q, kept_Q.tolist(), strict=True) if kept],
        )


def read(impressions: Path, queries: Path, items: Sequence[Item], max_queries: int) -> ClickLog:
    """Read the contract's tables `impressions` and `queries`.

    Raises:
        RankingError: no query of a shopper was shown an item of the catalogue.
    """
    with database() as base:
        base.register(
            "items", pa.table({"item_id": [item.item_id for item in items], "row": range(1, len(items) + 1)})
        )
        base.execute(_QUERIES, {"shown": str(impressions), "asked": str(queries)})
        mark_bots(base, DEFAULT_BOT_POLICY)
        base.execute(_NEWEST, {"max_queries": max_queries})
        shown: pa.Table = base.sql(_SHOWN, params={"shown": str(impressions)}).to_arrow_table()
        asked = base.execute("SELECT user_id, epoch_us(ts), image FROM newest ORDER BY query").fetchall()
        of_bots = _of_bots(base)
    if not len(shown):
        raise RankingError(
            f"none of the queries in {queries.name} was shown an item of the catalogue: check that the click "
            "log and the training set are of one shop"
        )
    return ClickLog(
        query_R=shown["query"].to_numpy().astype(np.int64),
        item_R=shown["item"].to_numpy().astype(np.int64),
        position_R=shown["position"].to_numpy().astype(np.int64),
        clicked_R=shown["clicked"].to_numpy().astype(np.bool_),
        user_Q=np.array([user for user, _, _ in asked]),
        time_Q=np.array([time for _, time, _ in asked], dtype=np.int64),
        photo_Q=[photo for _, _, photo in asked],
        impressions=impressions,
        of_bots=of_bots,
    )


def features_on(day: int, log: ClickLog, items: pa.Table, wanted: Sequence[str]) -> dict[str, ItemFeatures]:
    """The item features that the feature store would have held at the start of a day.

    Only clicks of earlier days count, so a label never leaks into its own signals. Midnight belongs to the day: in a
    log that has dates instead of times, all of its clicks are at midnight.

    Args:
        day: days since 1970.
        log: whose impressions count.
        items: the columns of `item_stats`.
        wanted: item_ids.
    """
    import pyarrow.compute as pc

    before = EPOCH + day * DAY - _MICROSECOND  # the window includes its end
    stats = item_stats(items, log.impressions, before, without_queries=log.of_bots)
    rows = stats.filter(pc.is_in(stats["item_id"], value_set=pa.array(wanted, pa.string())))
    return {
        row["item_id"]: ItemFeatures(
            price=row["price"],
            category=row["category"],
            impressions_7d=row["impressions_7d"],
            clicks_7d=row["clicks_7d"],
            ctr_7d=row["ctr_7d"],
            stock=None,  # not in the log
            updated_at=row["updated_at"],
        )
        for row in rows.to_pylist()
    }


def _of_bots(base: duckdb.DuckDBPyConnection) -> pa.Table:
    found: pa.Table = base.sql("SELECT query_id FROM queries SEMI JOIN bots USING (user_id)").to_arrow_table()
    return found
