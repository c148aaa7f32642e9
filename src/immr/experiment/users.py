"""From impressions to users: what each user of each variant asked for, saw and clicked. No row loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from immr.errors import ExperimentError
from immr.experiment.definition import Experiment

if TYPE_CHECKING:
    import numpy.typing as npt
    from tea_tasting.aggr import Aggregates

COUNTS = (
    "queries",
    "queries_with_click",
    "queries_without_result",
    "impressions",
    "clicks",
    "orders",
    "first_impressions",  # at position 1
    "first_clicks",
    "weighted_clicks",  # by how seldom their position is looked at
)
BEFORE = ("impressions_before", "clicks_before")
POSITION_BIAS = 1.0  # η: a position p is looked at with the chance p^−η
MAX_CLICK_WEIGHT = 10.0
_SUMS = ("impressions", "clicks", "orders", "first_impressions", "first_clicks", "weighted_clicks")
_JOINED_COLUMNS = ("query_id", "user_id", "variant", "model_version", "clicked", "ordered")
_IDS = ("query_id", "user_id", "variant", "model_version")
_TS = pa.timestamp("us", tz="UTC")
_SEARCH_COLUMNS = ("query_id", "user_id", "variant", "model_version", "fallback")


def exposures(joined: pa.Table, searches: pa.Table | None) -> pa.Table:
    """Impressions, and a row without impression for each search, so that those without results count.

    Raises:
        ExperimentError: a column is missing.
    """
    shown = _columns(joined, _JOINED_COLUMNS, "impressions", optional=("position", "ts"))
    tables = [_with_counts(shown, 1)]
    if searches is not None:
        tables.append(_with_counts(_columns(searches, _SEARCH_COLUMNS, "searches", optional=("ts",)), 0))
    return pa.concat_tables(tables)


def _with_counts(events: pa.Table, impressions: int) -> pa.Table:
    nothing = pa.repeat(pa.scalar(0, pa.int64()), events.num_rows)
    clicks, orders = (
        pc.cast(events[name], pa.int64()) if name in events.column_names else nothing
        for name in ("clicked", "ordered")
    )
    position = nothing  # unknown
    if "position" in events.column_names:
        position = pc.cast(events["position"], pa.int64())
    first = pc.cast(pc.equal(position, 1), pa.int64())
    worth = pc.min_element_wise(pc.power(pc.cast(position, pa.float64()), POSITION_BIAS), MAX_CLICK_WEIGHT)
    ts = pa.nulls(events.num_rows, _TS)
    if "ts" in events.column_names:
        ts = pc.cast(events["ts"], _TS)
    return pa.table(
        {name: events[name].cast(pa.string()) for name in _IDS}
        | {
            "ts": ts,
            "position": position,
            "impressions": pa.repeat(pa.scalar(impressions, pa.int64()), events.num_rows),
            "clicks": clicks,
            "orders": orders,
            "first_impressions": first,
            "first_clicks": pc.multiply(first, clicks),
            "weighted_clicks": pc.multiply(worth, pc.cast(clicks, pa.float64())),
        }
    )


def _columns(table: pa.Table, names: Sequence[str], what: str, optional: Sequence[str] = ()) -> pa.Table:
    if missing := [name for name in names if name not in table.column_names]:
        raise ExperimentError(
            f"the table of {what} has no column {', '.join(missing)}: read it from the event log, or add it"
        )
    return table.select([*names, *(name for name in optional if name in table.column_names)])


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
    queries = rows.group_by(["variant", "user_id", "query_id"], use_threads=False).aggregate(
        [(name, "sum") for name in _SUMS]
    )
    for name, count, test in (
        ("queries_with_click", "clicks_sum", pc.greater),
        ("queries_without_result", "impressions_sum", pc.equal),
    ):
        queries = queries.append_column(name, pc.cast(test(queries[count], 0), pa.int64()))
    counted = ("queries_with_click", "queries_without_result")
    users = queries.group_by(["variant", "user_id"], use_threads=False).aggregate(
        [
            ("query_id", "count"),
            *((f"{name}_sum", "sum") for name in _SUMS),
            *((name, "sum") for name in counted),
        ]
    )
    columns = {"variant": "variant", "user_id": "user_id", "queries": "query_id_count"}
    columns |= {name: f"{name}_sum" for name in counted} | {name: f"{name}_sum_sum" for name in _SUMS}
    return pa.table({name: users[column] for name, column in columns.items()})


def with_before(users: pa.Table, before: pa.Table) -> pa.Table:
    """Add what each user saw and clicked before the test, zero where nothing: `BEFORE`."""
    seen = _columns(before, ("user_id", "clicked"), "impressions before the test")
    sums = (
        pa.table(
            {"user_id": seen["user_id"].cast(pa.string()), "clicked": pc.cast(seen["clicked"], pa.int64())}
        )
        .group_by("user_id")
        .aggregate([("clicked", "count"), ("clicked", "sum")])
        .rename_columns(["user_id", *BEFORE])
    )
    joined = users.join(sums, "user_id")
    for name in BEFORE:
        at = joined.column_names.index(name)
        joined = joined.set_column(at, name, pc.fill_null(joined[name], 0))
    return joined.sort_by([("variant", "ascending"), ("user_id", "ascending")])


def by_position(rows: pa.Table) -> list[tuple[str, int, int, int]]:
    """Variant, position, impressions, clicks; empty where positions are not known."""
    known = rows.filter(pc.greater(rows["position"], 0))
    sums = known.group_by(["variant", "position"], use_threads=False).aggregate(
        [("impressions", "sum"), ("clicks", "sum")]
    )
    sums = sums.sort_by([("variant", "ascending"), ("position", "ascending")])
    names = ("variant", "position", "impressions_sum", "clicks_sum")
    return list(zip(*(sums[name].to_pylist() for name in names), strict=True))


def users_in_both(users: pa.Table) -> int:
    """Users with a row in more than one variant."""
    return int(users.num_rows - pc.count_distinct(users["user_id"]).as_py())


def aggregate(users: pa.Table, variant: str) -> Aggregates:
    """Count, means, variances and covariances over the variant's users."""
    of_variant = users.filter(pc.equal(users["variant"], variant))
    names = [name for name in (*COUNTS, *BEFORE) if name in users.column_names]
    return aggregates_of({name: of_variant[name].to_numpy() for name in names})


def aggregates_of(sums: Mapping[str, npt.NDArray[Any]]) -> Aggregates:
    """Count, means, variances and covariances of sums of users, each of shape (N,)."""
    import numpy as np
    from tea_tasting.aggr import Aggregates

    names = list(sums)
    values_KN = np.stack([np.asarray(values, dtype=np.float64) for values in sums.values()])
    n = values_KN.shape[1]
    means_K = values_KN.mean(axis=1) if n else np.zeros(len(names))
    cov_KK = np.cov(values_KN).reshape(len(names), -1) if n > 1 else np.zeros((len(names), len(names)))
    return Aggregates(
        count_=n,
        mean_={name: float(means_K[i]) for i, name in enumerate(names)},
        var_={name: float(cov_KK[i, i]) for i, name in enumerate(names)},
        cov_={
            (left, right): float(cov_KK[i, j])
            for i, left in enumerate(names)
            for j, right in enumerate(names)
            if left < right
        },
    )
