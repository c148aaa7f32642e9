"""Bots and crawlers, known by rules: they search as no shopper does. Marked, counted and left out.

The rules are the same in all variants and look at the whole user. One looks at clicks, which a variant may
change, so the number marked is shown by variant: a difference there is a finding about the variant.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from immr.errors import ExperimentError

TOO_FAST = "too many queries in a minute"
NO_CLICK = "very many queries, no click"


@dataclass(frozen=True, slots=True)
class BotPolicy:
    """From where on a user is none."""

    queries_per_minute: int = 30
    queries_without_click: int = 200

    def __post_init__(self) -> None:
        if self.queries_per_minute < 1 or self.queries_without_click < 1:
            raise ExperimentError("a bot needs at least one query: raise the limits of the bot policy")


DEFAULT_BOT_POLICY = BotPolicy()


@dataclass(frozen=True, slots=True)
class Marked:
    """Users that one rule marked in one variant."""

    variant: str
    rule: str
    users: int
    queries: int


def mark(exposures: pa.Table, policy: BotPolicy) -> pa.Table:
    """Users that are no shoppers: `user_id` and `rule`, the first that holds.

    Args:
        exposures: As `users.exposures` makes them. Without times only the second rule works.
        policy: The limits.
    """
    queries = exposures.group_by(["user_id", "query_id"], use_threads=False).aggregate(
        [("ts", "min"), ("clicks", "sum")]
    )
    fast = _too_fast(queries, policy.queries_per_minute)
    users = queries.group_by("user_id", use_threads=False).aggregate(
        [("query_id", "count"), ("clicks_sum", "sum")]
    )
    silent = pc.and_(
        pc.greater_equal(users["query_id_count"], policy.queries_without_click),
        pc.equal(users["clicks_sum_sum"], 0),
    )
    still = users.filter(silent)["user_id"]
    still = still.filter(pc.invert(pc.is_in(still, value_set=fast)))
    rules = pa.array([TOO_FAST] * len(fast) + [NO_CLICK] * len(still), pa.string())
    return pa.table({"user_id": pa.array(fast.to_pylist() + still.to_pylist(), pa.string()), "rule": rules})


def _too_fast(queries: pa.Table, limit: int) -> pa.Array:
    timed = queries.filter(pc.is_valid(queries["ts_min"]))
    minute = pc.floor_temporal(timed["ts_min"], unit="minute")
    rates = (
        pa.table({"user_id": timed["user_id"], "minute": minute})
        .group_by(["user_id", "minute"], use_threads=False)
        .aggregate([([], "count_all")])
    )
    return pc.unique(rates.filter(pc.greater_equal(rates["count_all"], limit))["user_id"])


def without(exposures: pa.Table, bots: pa.Table) -> tuple[pa.Table, tuple[Marked, ...]]:
    """Leave the bots out; what was left out, by variant and rule."""
    is_bot = pc.is_in(exposures["user_id"], value_set=bots["user_id"].combine_chunks())
    theirs = exposures.filter(is_bot).select(["variant", "user_id", "query_id"]).join(bots, "user_id")
    counts = theirs.group_by(["variant", "rule"]).aggregate(
        [("user_id", "count_distinct"), ("query_id", "count_distinct")]
    )
    counts = counts.sort_by([("variant", "ascending"), ("rule", "ascending")])
    names = ("variant", "rule", "user_id_count_distinct", "query_id_count_distinct")
    marked = tuple(Marked(*row) for row in zip(*(counts[name].to_pylist() for name in names), strict=True))
    return exposures.filter(pc.invert(is_bot)), marked
