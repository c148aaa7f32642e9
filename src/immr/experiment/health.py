"""How a variant serves: failures, empty answers, slowness. What guardrails look at, beside the clicks."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from immr.experiment.definition import Experiment, Variant

_COLUMNS = ("user_id", "variant", "model_version", "took_ms", "results", "fallback")
_P99_ALPHA = 0.001


@dataclass(frozen=True, slots=True)
class Health:
    """One variant's searches."""

    variant: str
    users: int
    searches: int
    fallback_rate: float  # another variant had to answer: this one failed, or took too long
    zero_result_rate: float  # of its own answers
    p99_ms: float  # nearest rank; waiting before a fallback included
    p99_low_ms: float  # the true p99 is at least this, with 99.9 % confidence (order statistic)


def health(searches: pa.Table, experiment: Experiment, bots: pa.Table) -> tuple[Health, ...]:
    """Of each variant that was searched; nothing where the table of searches lacks what is needed.

    Args:
        searches: As `EventLog.searches` gives them.
        experiment: Its variants and versions.
        bots: Users to leave out, by `user_id`.
    """
    if any(name not in searches.column_names for name in _COLUMNS):
        return ()
    shoppers = searches.filter(
        pc.invert(pc.is_in(searches["user_id"].cast(pa.string()), value_set=bots["user_id"].combine_chunks()))
    )
    found = (_of_variant(shoppers, variant) for variant in experiment.variants)
    return tuple(each for each in found if each is not None)


def _of_variant(searches: pa.Table, variant: Variant) -> Health | None:
    own = pc.or_(pc.equal(searches["model_version"], variant.model_version), searches["fallback"])
    ours = searches.filter(pc.and_(pc.equal(searches["variant"], variant.name), own))
    if not ours.num_rows:
        return None
    answered = ours.filter(pc.invert(ours["fallback"]))
    empty = pc.sum(pc.equal(answered["results"], 0)).as_py() or 0
    p99_ms, p99_low_ms = _p99(ours["took_ms"])
    return Health(
        variant=variant.name,
        users=pc.count_distinct(ours["user_id"]).as_py(),
        searches=ours.num_rows,
        fallback_rate=1 - answered.num_rows / ours.num_rows,
        zero_result_rate=empty / answered.num_rows if answered.num_rows else 0.0,
        p99_ms=p99_ms,
        p99_low_ms=p99_low_ms,
    )


def _p99(took_ms: pa.ChunkedArray) -> tuple[float, float]:
    """p99 and its lower confidence bound, both as order statistics."""
    from scipy.stats import binom

    ordered = took_ms.combine_chunks().sort()
    n = len(ordered)
    low = int(binom.ppf(_P99_ALPHA, n, 0.99))
    nearest = -(-n * 99 // 100)
    return ordered[nearest - 1].as_py(), ordered[low - 1].as_py() if low else 0.0
