"""How a variant serves: failures, empty answers, slowness. What guardrails look at, beside the clicks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from immr.experiment.definition import Experiment

if TYPE_CHECKING:
    import duckdb

_P99_ALPHA = 0.001
_OURS = """FROM asked ANTI JOIN bots USING (user_id) JOIN variants ON asked.variant = variants.variant
        AND (asked.model_version = variants.model_version OR fallback)
    WHERE took_ms IS NOT NULL AND results IS NOT NULL"""
_SEARCHES = f"""SELECT asked.variant, count(DISTINCT user_id), count(*), count(*) FILTER (NOT fallback),
    count(*) FILTER (NOT fallback AND results = 0) {_OURS} GROUP BY asked.variant"""


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


def health(base: duckdb.DuckDBPyConnection, experiment: Experiment) -> tuple[Health, ...]:
    """Of each variant that was searched; nothing where how long searches took is not known.

    Args:
        base: With `asked`, `bots` and `variants`.
        experiment: Its variants and versions.
    """
    counted = {variant: counts for variant, *counts in base.execute(_SEARCHES).fetchall()}
    found = []
    for name in (side.name for side in experiment.variants if side.name in counted):
        users, searches, answered, empty = counted[name]
        p99_ms, p99_low_ms = _p99(base, name, searches)
        found.append(
            Health(
                variant=name,
                users=users,
                searches=searches,
                fallback_rate=1 - answered / searches,
                zero_result_rate=empty / answered if answered else 0.0,
                p99_ms=p99_ms,
                p99_low_ms=p99_low_ms,
            )
        )
    return tuple(found)


def _p99(base: duckdb.DuckDBPyConnection, variant: str, n: int) -> tuple[float, float]:
    """p99 and its lower confidence bound, both as order statistics."""
    from scipy.stats import binom

    nearest, low = -(-n * 99 // 100), int(binom.ppf(_P99_ALPHA, n, 0.99))
    # (k − ½) / n of n values, without interpolation, is the k-th: no rounding can make it another.
    shares = ", ".join(str((place - 0.5) / n) for place in (nearest, max(low, 1)))
    base.execute(f"SELECT quantile_disc(took_ms, [{shares}]) {_OURS} AND asked.variant = ?", [variant])
    [([p99_ms, p99_low_ms],)] = base.fetchall()
    return p99_ms, p99_low_ms if low else 0.0
