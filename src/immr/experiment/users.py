"""From impressions to users: what each user of each variant asked for, saw and clicked. No row loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from immr.errors import ExperimentError
from immr.experiment.definition import Experiment

if TYPE_CHECKING:
    from tea_tasting.aggr import Aggregates

COUNTS = ("queries", "queries_with_click", "impressions", "clicks", "orders")
_JOINED_COLUMNS = ("query_id", "user_id", "variant", "model_version", "clicked", "ordered")
_SEARCH_COLUMNS = ("query_id", "user_id", "variant", "model_version", "fallback")


def exposures(joined: pa.Table, searches: pa.Table | None) -> pa.Table:
    """Impressions, and a row without impression for each search, so that those without results count.

    Raises:
        ExperimentError: a column is missing.
    """
    names = ("query_id", "user_id", "variant", "model_version")
    shown = _columns(joined, _JOINED_COLUMNS, "impressions")
    tables = [_with_counts(shown.select(names), 1, shown["clicked"], shown["ordered"])]
    if searches is not None:
        asked = _columns(searches, _SEARCH_COLUMNS, "searches")
        nothing = pa.repeat(False, asked.num_rows)
        tables.append(_with_counts(asked.select(names), 0, nothing, nothing))
    return pa.concat_tables(tables)


def _with_counts(table: pa.Table, impressions: int, clicked: pa.Array, ordered: pa.Array) -> pa.Table:
    table = pa.table([table[name].cast(pa.string()) for name in table.column_names], table.column_names)
    counts = {
        "impressions": pa.repeat(pa.scalar(impressions, pa.int64()), table.num_rows),
        "clicks": pc.cast(clicked, pa.int64()),
        "orders": pc.cast(ordered, pa.int64()),
    }
    for name, values in counts.items():
        table = table.append_column(name, values)
    return table


def _columns(table: pa.Table, names: Sequence[str], what: str) -> pa.Table:
    if missing := [name for name in names if name not in table.column_names]:
        raise ExperimentError(
            f"the table of {what} has no column {', '.join(missing)}: read it from the event log, or add it"
        )
    return table.select(names)


def without_fallback(rows: pa.Table, searches: pa.Table | None) -> tuple[pa.Table, int]:
    """Leave out queries that another variant had to answer; the number of those."""
    if searches is None:
        return rows, 0
    fallback = pc.unique(searches.filter(searches["fallback"])["query_id"].cast(pa.string()))
    return rows.filter(pc.invert(pc.is_in(rows["query_id"], value_set=fallback))), len(fallback)


def of_experiment(rows: pa.Table, experiment: Experiment) -> tuple[pa.Table, int]:
    """Keep what a variant's own model version answered; the number of queries left out."""
    ours = pa.chunked_array([pa.repeat(False, rows.num_rows)])
    for variant in experiment.variants:
        same = pc.and_(
            pc.equal(rows["variant"], variant.name), pc.equal(rows["model_version"], variant.model_version)
        )
        ours = pc.or_(ours, same)
    foreign = rows.filter(pc.invert(ours))["query_id"]
    return rows.filter(ours), pc.count_distinct(foreign).as_py()


def per_user(rows: pa.Table) -> pa.Table:
    """One row per variant and user_id: the `COUNTS`, summed."""
    sums = [("impressions", "sum"), ("clicks", "sum"), ("orders", "sum")]
    queries = rows.group_by(["variant", "user_id", "query_id"], use_threads=False).aggregate(sums)
    queries = queries.append_column(
        "queries_with_click", pc.cast(pc.greater(queries["clicks_sum"], 0), pa.int64())
    )
    users = queries.group_by(["variant", "user_id"], use_threads=False).aggregate(
        [("query_id", "count"), *((f"{name}_sum", "sum") for name, _ in sums), ("queries_with_click", "sum")]
    )
    return pa.table(
        {
            "variant": users["variant"],
            "user_id": users["user_id"],
            "queries": users["query_id_count"],
            "queries_with_click": users["queries_with_click_sum"],
            "impressions": users["impressions_sum_sum"],
            "clicks": users["clicks_sum_sum"],
            "orders": users["orders_sum_sum"],
        }
    )


def users_in_both(users: pa.Table) -> int:
    """Users with a row in more than one variant."""
    return int(users.num_rows - pc.count_distinct(users["user_id"]).as_py())


def aggregate(users: pa.Table, variant: str) -> Aggregates:
    """Count, means, variances and covariances over the variant's users."""
    import numpy as np
    from tea_tasting.aggr import Aggregates

    of_variant = users.filter(pc.equal(users["variant"], variant))
    n = of_variant.num_rows
    values_KN = np.stack([of_variant[name].to_numpy().astype(np.float64) for name in COUNTS])
    means_K = values_KN.mean(axis=1) if n else np.zeros(len(COUNTS))
    cov_KK = np.cov(values_KN) if n > 1 else np.zeros((len(COUNTS), len(COUNTS)))
    return Aggregates(
        count_=n,
        mean_={name: float(means_K[i]) for i, name in enumerate(COUNTS)},
        var_={name: float(cov_KK[i, i]) for i, name in enumerate(COUNTS)},
        cov_={
            (left, right): float(cov_KK[i, j])
            for i, left in enumerate(COUNTS)
            for j, right in enumerate(COUNTS)
            if left < right
        },
    )
