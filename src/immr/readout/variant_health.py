"""How a variant serves: failures, searches without results, latency. Input of the guardrails.

Searches of one user fail together (one camera, one network), so the moments are taken over users.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from immr.experiment.definition import Experiment
from immr.readout.user_moments import RatioMoments

if TYPE_CHECKING:
    import duckdb

SLOW_MS = (200, 350, 500, 700, 1000, 1400, 2000, 2800, 4000, 5600, 8000)
"""Latencies for which the share of slower searches is known, in milliseconds."""

_COUNTED = {
    "fallbacks": "fallback",
    "empty": "NOT fallback AND results = 0",
    **{f"over_{limit}": f"took_ms > {limit}" for limit in SLOW_MS},
}
_OF_VARIANT = """FROM asked ANTI JOIN bots USING (user_id) SEMI JOIN variants USING (variant, model_version)
    WHERE took_ms IS NOT NULL AND results IS NOT NULL"""
_BY_USER = f"""SELECT variant, user_id, count(*)::DOUBLE AS searches,
        {", ".join(f"(count(*) FILTER ({sql}))::DOUBLE AS {name}" for name, sql in _COUNTED.items())}
    {_OF_VARIANT} GROUP BY variant, user_id"""
_MOMENTS = f"""SELECT variant, count(*), sum(searches), sum(searches * searches),
        {", ".join(f"sum({name}), sum({name} * {name}), sum({name} * searches)" for name in _COUNTED)}
    FROM ({_BY_USER}) GROUP BY variant"""
_P99 = f"SELECT variant, quantile_disc(took_ms, 0.99) {_OF_VARIANT} GROUP BY variant"


@dataclass(frozen=True, slots=True)
class Health:
    """One variant's searches, and the same per user for the guardrails."""

    variant: str
    users: int
    searches: int
    fallback_rate: float  # another variant answered, because this one failed or was too slow
    zero_result_rate: float  # this variant answered without results
    p99_ms: float  # includes the time waited before a fallback
    fallbacks: RatioMoments  # searches with a fallback, per search
    empty: RatioMoments  # answers without results, per search
    slow: tuple[RatioMoments, ...]  # searches slower than each of SLOW_MS, per search

    def to_json(self) -> dict[str, Any]:
        """The numbers to show, without the moments."""
        names = ("variant", "users", "searches", "fallback_rate", "zero_result_rate", "p99_ms")
        return {name: getattr(self, name) for name in names}


def health(base: duckdb.DuckDBPyConnection, experiment: Experiment) -> tuple[Health, ...]:
    """One entry per variant that was searched; none if the searches' latencies are unknown.

    Args:
        base: Database with the tables `asked`, `bots` and `variants`.
        experiment: Its variants and versions.
    """
    counted = {variant: sums for variant, *sums in base.execute(_MOMENTS).fetchall()}
    p99s = dict(base.execute(_P99).fetchall())
    return tuple(
        _health(side.name, counted[side.name], p99s[side.name])
        for side in experiment.variants
        if side.name in counted
    )


def _health(variant: str, sums: list[float], p99_ms: float) -> Health:
    users, searches, searches_squares, *counted = sums
    fallbacks, empty, *slow = (
        RatioMoments.of_sums(users, total, searches, squares, searches_squares, products)
        for total, squares, products in zip(counted[::3], counted[1::3], counted[2::3], strict=True)
    )
    return Health(
        variant=variant,
        users=int(users),
        searches=int(searches),
        fallback_rate=float(fallbacks.rate),
        zero_result_rate=float(empty.rate),
        p99_ms=p99_ms,
        fallbacks=fallbacks,
        empty=empty,
        slow=tuple(slow),
    )
