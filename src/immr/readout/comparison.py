"""One metric in two variants: a ratio over users, its interval, and the difference with its intervals.

Users come back, and each clicks at a rate of their own, so impressions are no independent trials: the
variance is the delta method's on users (A. Deng, U. Knoblich, J. Lu, *Applying the Delta Method in Metric
Analytics*, KDD 2018), as tea-tasting has it. Pure functions over sums of users.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from immr.readout.sequential import always_valid_half_width, tuned_rho

if TYPE_CHECKING:
    from tea_tasting.aggr import Aggregates

_ROUNDING = 1e-20  # a variance below this is the rounding of what is exactly zero


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Rate:
    """A ratio in one variant; no interval where nothing, or everything, was clicked, or with one user."""

    value: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Challenger minus champion, and the lift as a share of the champion's value."""

    metric: str
    champion: float
    challenger: float
    difference: float
    interval: Interval  # for one look, at a time chosen before
    always_valid: Interval  # for any number of looks
    relative_lift: float | None  # None where the champion is at zero
    relative_interval: Interval | None
    p_value: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """A metric: the sum of one column over the sum of another, or over users where there is none."""

    name: str
    numerator: str
    denominator: str | None
    highest: float = 1.0  # no value can be above
    covariates: tuple[str, str] | None = None  # numerator and denominator of the same ratio before the test


@dataclass(frozen=True, slots=True)
class Look:
    """How a look at the data is made."""

    confidence: float = 0.95
    tuned_for_users: int = 2000  # where the always-valid interval is narrowest


DEFAULT_LOOK = Look()


def rate(ratio: Ratio, users: Aggregates, confidence: float) -> Rate | None:
    """The ratio in one variant; None where its denominator is zero."""
    below = users.mean(ratio.denominator)
    if users.count() == 0 or not below:
        return None
    value = users.mean(ratio.numerator) / below
    error = standard_error(ratio, users)
    if error == 0:
        return Rate(value, None)
    half = NormalDist().inv_cdf((1 + confidence) / 2) * error
    return Rate(value, Interval(max(value - half, 0.0), min(value + half, ratio.highest)))


def standard_error(ratio: Ratio, users: Aggregates) -> float:
    """Of a ratio of means over users, by the delta method."""
    variance = users.ratio_var(ratio.numerator, ratio.denominator) / users.count()
    return math.sqrt(variance) if variance > _ROUNDING else 0.0


def compare(
    ratio: Ratio, champion: Aggregates, challenger: Aggregates, look: Look = DEFAULT_LOOK
) -> Comparison | None:
    """Challenger minus champion; None where the users do not vary.

    With covariates it is CUPED: what the same users did before takes out what they would have done anyway
    (A. Deng, Y. Xu, R. Kohavi, T. Walker, WSDM 2013).
    """
    from tea_tasting.metrics import RatioOfMeans

    if not (standard_error(ratio, champion) or standard_error(ratio, challenger)):
        return None
    before = ratio.covariates or (None, None)
    metric = RatioOfMeans(
        ratio.numerator,
        ratio.denominator,
        *before,
        confidence_level=look.confidence,
        alternative="two-sided",
        equal_var=False,
        use_t=False,
    )
    found = metric.analyze_aggregates(champion, challenger)
    difference = float(found.effect_size)
    interval = Interval(float(found.effect_size_ci_lower), float(found.effect_size_ci_upper))
    relative = Interval(float(found.rel_effect_size_ci_lower), float(found.rel_effect_size_ci_upper))
    lift_known = float(found.control) > 0
    interval_known = lift_known and math.isfinite(relative.low) and math.isfinite(relative.high)
    half = _always_valid_half(interval, champion.count() + challenger.count(), look)
    highest = ratio.highest
    return Comparison(
        metric=ratio.name,
        champion=float(found.control),
        challenger=float(found.treatment),
        difference=difference,
        interval=interval,
        always_valid=Interval(max(difference - half, -highest), min(difference + half, highest)),
        relative_lift=float(found.rel_effect_size) if lift_known else None,
        relative_interval=relative if interval_known else None,
        p_value=float(found.pvalue),
    )


def _always_valid_half(one_look: Interval, users: int, look: Look) -> float:
    alpha = 1 - look.confidence
    error = (one_look.high - one_look.low) / 2 / NormalDist().inv_cdf(1 - alpha / 2)
    return always_valid_half_width(error, users, tuned_rho(look.tuned_for_users, alpha), alpha)
