"""Guardrails: how much worse than the champion a challenger may serve, whatever its clicks.

Each one compares a share of searches between the variants, with users as the unit, since the searches of one
user fail together. The bound is always valid, since guardrails are checked every minute. A guardrail breaks
when the lower bound of the difference exceeds what is allowed. Pure functions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from immr.errors import ExperimentError
from immr.readout.sequential import always_valid_half_width, tuned_rho
from immr.readout.user_moments import RatioMoments, rate_difference
from immr.readout.variant_health import SLOW_MS, Health
from immr.types import in_a_sentence

EARLY_USERS = 300
"""The bounds are narrowest here, in users of both variants: they find large differences soon."""
ALPHA = 0.02  # of the two-sided interval: its lower bound is wrong at some look with probability 1 % at most


@dataclass(frozen=True)
class GuardrailPolicy:
    """How much worse the challenger may be, as a share of searches."""

    min_users: int = 10  # of the challenger
    extra_fallback: float = 0.02
    extra_zero_result: float = 0.05
    extra_slow: float = 0.01  # of searches slower than the latency limit, which is
    p99_factor: float = 2.0  # times the champion's p99
    p99_ms: float = 500.0  # but at least this

    def __post_init__(self) -> None:
        extra = (self.extra_fallback, self.extra_zero_result, self.extra_slow)
        if self.min_users < 1 or self.p99_factor < 1 or min(extra) < 0:
            raise ExperimentError(
                "the guardrail policy needs min_users ≥ 1, p99_factor ≥ 1 and no negative share"
            )


@dataclass(frozen=True)
class Breach:
    """A broken guardrail, with the reason in a sentence."""

    guardrail: str
    reason: str


def breaches(
    champion: Health, challenger: Health, policy: GuardrailPolicy, challengers: int = 1
) -> tuple[Breach, ...]:
    """The guardrails that a challenger breaks; with `ALPHA` shared by all challengers of the test."""
    if challenger.users < policy.min_users:
        return ()
    found = []
    alpha, name = ALPHA / challengers, in_a_sentence(challenger.variant).capitalize()
    of_its = f"of its {challenger.searches:,} searches"
    if _exceeds(champion.fallbacks, challenger.fallbacks, policy.extra_fallback, alpha):
        reason = (
            f"{name} fails: another variant had to answer {challenger.fallback_rate:.1%} {of_its}, against "
            f"{champion.fallback_rate:.1%} for the champion."
        )
        found.append(Breach("error rate", reason))
    if _exceeds(champion.empty, challenger.empty, policy.extra_zero_result, alpha):
        reason = (
            f"{name} finds nothing in {challenger.zero_result_rate:.1%} {of_its}, against "
            f"{champion.zero_result_rate:.1%} for the champion."
        )
        found.append(Breach("zero results", reason))
    at = slow_limit(champion.p99_ms, policy)
    if at is not None and _exceeds(champion.slow[at], challenger.slow[at], policy.extra_slow, alpha):
        reason = (
            f"{name} is slow: {float(challenger.slow[at].rate):.1%} {of_its} took longer than {SLOW_MS[at]} ms, "
            f"against {float(champion.slow[at].rate):.1%} for the champion (p99 {challenger.p99_ms:.0f} ms against "
            f"{champion.p99_ms:.0f} ms)."
        )
        found.append(Breach("p99 latency", reason))
    return tuple(found)


def slow_limit(champion_p99_ms: float, policy: GuardrailPolicy) -> int | None:
    """Index in `SLOW_MS` of the latency that counts as slow; None above the last one.

    The limit is rounded up to a fixed grid, so that it does not follow every change of the champion's p99.
    """
    limit_ms = max(policy.p99_factor * champion_p99_ms, policy.p99_ms)
    return next((at for at, slow_ms in enumerate(SLOW_MS) if slow_ms >= limit_ms), None)


def excess_lower_bound(
    champion: RatioMoments, challenger: RatioMoments, alpha: float = ALPHA
) -> npt.NDArray[np.float64]:
    """Lower always-valid bound of challenger's share minus champion's; NaN if one variant has no searches."""
    difference, error = rate_difference(champion, challenger)
    users = champion.users + challenger.users
    half = always_valid_half_width(error, users, tuned_rho(EARLY_USERS, alpha), alpha)
    return np.asarray(difference - half)


def _exceeds(champion: RatioMoments, challenger: RatioMoments, allowed: float, alpha: float) -> bool:
    return bool(excess_lower_bound(champion, challenger, alpha) > allowed)
