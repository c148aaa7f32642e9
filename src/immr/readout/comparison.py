"""Ratio metrics in two variants: each variant's rate, and the difference with its intervals.

Users come back and click at different rates, so impressions are not independent trials. The variance is the
delta method's over users (A. Deng, U. Knoblich, J. Lu, *Applying the Delta Method in Metric Analytics*,
KDD 2018), computed by tea-tasting. Pure functions over moments of users.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from immr.experiment.definition import CHALLENGER
from immr.readout.sequential import always_valid_half_width, tuned_rho
from immr.readout.user_moments import MAX_CLICK_WEIGHT, RatioMoments, of_columns, rate_difference

if TYPE_CHECKING:
    from tea_tasting.aggr import Aggregates

DEFAULT_PLANNED_USERS = 10_000
_NOTHING_LEFT = 1e-9  # share of a variance that is rounding error
_ROUNDING = 1e-12  # share of a variance's terms that is rounding error


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Rate:
    """A ratio in one variant; without interval if the users do not vary."""

    value: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Challenger minus champion, and the lift relative to the champion."""

    metric: str
    champion: float
    challenger: float
    difference: float
    interval: Interval  # for one look, at a time fixed in advance
    always_valid: Interval  # for any number of looks, narrowest at the planned number of users
    standard_error: float  # of the difference, for tests at every look
    relative_lift: float | None  # None if the champion's value is zero
    relative_interval: Interval | None
    p_value: float
    variant: str = CHALLENGER  # which challenger
    is_share: bool = True  # between 0 and 1, as a CTR


@dataclass(frozen=True, slots=True)
class Arm:
    """A challenger against the champion. Intervals hold for all challengers of the test jointly."""

    variant: str
    model_version: str
    ctr: Comparison | None
    ctr_per_query: Comparison | None
    ctr_per_user: Comparison | None  # the brake acts on it
    cuped: Comparison | None  # CTR, adjusted for what the same users did before the test
    secondary: Mapping[str, Comparison]  # these explain the CTR and do not affect the decision

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """CTR, CTR with CUPED and the other metrics, as charts and tables show them."""
        found = (self.ctr, self.cuped, self.ctr_per_user, *self.secondary.values())
        return tuple(each for each in found if each is not None)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A metric: the sum of one column over the sum of another, or over the number of users."""

    name: str
    numerator: str
    denominator: str | None  # None: per user
    highest: float = 1.0  # upper bound of the value
    covariates: tuple[str, str | None] | None = None  # numerator and denominator of the ratio before the test

    def alone(self, users: Aggregates) -> Aggregates:
        """The moments of this ratio's columns: tea-tasting converts and adds up all that it is given."""
        columns = (self.numerator, self.denominator, *(self.covariates or ()))
        return of_columns(users, sorted({name for name in columns if name is not None}))


CTR = Ratio("CTR", "clicks", "impressions")
CTR_PER_QUERY = Ratio("CTR per query", "queries_with_click", "queries")
CTR_PER_USER = Ratio("CTR per user", "ctr", "was_shown")  # the mean of the users' own CTRs
CTR_CUPED = Ratio("CTR (CUPED)", "clicks", "impressions", covariates=("clicks_before", "impressions_before"))
CTR_OWN_ANSWERS = Ratio("CTR without fallbacks", "own_clicks", "own_impressions")
CTR_AT_1 = Ratio("CTR@1", "first_clicks", "first_impressions")
ORDERS_PER_USER = Ratio("orders per user", "orders", None, highest=math.inf)
WEIGHTED_CTR = Ratio("position-weighted CTR", "weighted_clicks", "impressions", highest=MAX_CLICK_WEIGHT)
ZERO_RESULT_RATE = Ratio("zero-result rate", "queries_without_result", "queries")


@dataclass(frozen=True, slots=True)
class Look:
    """Parameters of all intervals."""

    confidence: float = 0.95
    planned_users: int = DEFAULT_PLANNED_USERS  # of both variants, fixed before the test starts

    def shared_by(self, comparisons: int) -> Look:
        """The look at each of several comparisons, so that all hold jointly (Bonferroni)."""
        return replace(self, confidence=1 - self.alpha / max(comparisons, 1))

    @property
    def alpha(self) -> float:
        """Probability that an interval misses the true value."""
        return 1 - self.confidence

    @property
    def z(self) -> float:
        """Half-width of the one-look interval in standard errors."""
        return NormalDist().inv_cdf(1 - self.alpha / 2)

    def always_valid(self, standard_error: float, users: int) -> float:
        """Half-width of the always-valid interval."""
        rho = tuned_rho(self.planned_users, self.alpha)
        return float(always_valid_half_width(standard_error, users, rho, self.alpha))


DEFAULT_LOOK = Look()


def rate(ratio: Ratio, users: Aggregates, confidence: float) -> Rate | None:
    """The ratio in one variant; None if its denominator is zero."""
    below = users.mean(ratio.denominator)
    if users.count() == 0 or not below:
        return None
    value = users.mean(ratio.numerator) / below
    error = standard_error(ratio, users)
    if error == 0:
        return Rate(value, None)
    half = _student(ratio, users, confidence) * error
    return Rate(value, Interval(max(value - half, 0.0), min(value + half, ratio.highest)))


def _student(ratio: Ratio, users: Aggregates, confidence: float) -> float:
    """Quantile of Student's t. Few users with most of the denominator count as few: n_eff = (Σ y)² / Σ y²."""
    from scipy.special import stdtrit

    unequal = users.var(ratio.denominator) / users.mean(ratio.denominator) ** 2
    effective = users.count() / (1 + unequal)
    return float(stdtrit(max(effective - 1, 1.0), (1 + confidence) / 2))


def standard_error(ratio: Ratio, users: Aggregates) -> float:
    """Standard error of a ratio over users, by the delta method; 0 if all users have the same ratio."""
    names = ratio.numerator, ratio.denominator
    rate = users.mean(names[0]) / users.mean(names[1])
    terms = (users.var(names[0]) + users.var(names[1]) * rate**2) / users.mean(names[1]) ** 2
    variance = users.ratio_var(*names)
    return math.sqrt(variance / users.count()) if variance > _ROUNDING * terms else 0.0


def compare(
    ratio: Ratio,
    champion: Aggregates,
    challenger: Aggregates,
    look: Look = DEFAULT_LOOK,
    variant: str = CHALLENGER,
) -> Comparison | None:
    """Challenger minus champion; None if the users do not vary, or a variant's denominator is zero.

    With covariates this is CUPED: behaviour before the test explains part of the variance between users
    (A. Deng, Y. Xu, R. Kohavi, T. Walker, WSDM 2013).

    All intervals are wider than tea-tasting's by what `rate_difference` adds for few, unequal users. With 20 users in
    each variant, of whom a few search most, tea-tasting's 95 % intervals of equal versions exclude zero in 15 % of
    all cases, these in 3 % (3,000 simulations with the users of tests/readout/test_comparison.py).
    """
    from tea_tasting.metrics import RatioOfMeans

    sides = champion, challenger = (ratio.alone(champion), ratio.alone(challenger))
    if not all(side.mean(ratio.denominator) for side in sides):
        return None
    if not any(standard_error(ratio, side) for side in sides):
        return None
    metric = RatioOfMeans(
        ratio.numerator,
        ratio.denominator,
        *(ratio.covariates or (None, None)),
        confidence_level=look.confidence,
        alternative="two-sided",
        equal_var=False,
        use_t=False,
    )
    found = metric.analyze_aggregates(champion, challenger)
    difference = float(found.effect_size)
    own = (float(found.effect_size_ci_upper) - float(found.effect_size_ci_lower)) / 2 / look.z
    wider = _few_users_factor(ratio, champion, challenger)
    error = wider * own
    interval = Interval(difference - look.z * error, difference + look.z * error)
    lift_known = float(found.control) > 0
    relative = _widened(found, wider) if lift_known else None
    users = champion.count() + challenger.count()
    half = look.always_valid(error, users)
    return Comparison(
        metric=ratio.name,
        champion=float(found.control),
        challenger=float(found.treatment),
        difference=difference,
        interval=interval,
        always_valid=Interval(max(difference - half, -ratio.highest), min(difference + half, ratio.highest)),
        standard_error=error,
        relative_lift=float(found.rel_effect_size) if lift_known else None,
        relative_interval=relative,
        p_value=math.erfc(abs(difference) / error / math.sqrt(2)),
        variant=variant,
        is_share=ratio.highest == 1.0,
    )


def _few_users_factor(ratio: Ratio, champion: Aggregates, challenger: Aggregates) -> float:
    """The standard error of `rate_difference`, relative to that from each variant's own variance; at least 1."""
    sides = (champion, challenger)
    own = math.hypot(*(standard_error(ratio, side) for side in sides))
    return max(float(rate_difference(*(moments(ratio, side) for side in sides))[1]) / own, 1.0)


def _widened(found: Any, times: float) -> Interval | None:
    """The interval of the lift, widened by a factor on the logarithmic scale, where it is symmetric."""
    lift, low, high = (
        1 + float(getattr(found, f"rel_effect_size{end}")) for end in ("", "_ci_lower", "_ci_upper")
    )
    if not (0 < low <= lift and math.isfinite(high)):
        return None
    return Interval(lift * (low / lift) ** times - 1, lift * (high / lift) ** times - 1)


def compare_arm(
    variant: str,
    model_version: str,
    champion: Aggregates,
    challenger: Aggregates,
    secondary: Sequence[Ratio],
    look: Look,
) -> Arm:
    """All metrics of a challenger against the champion."""
    ratios = (CTR, CTR_PER_QUERY, CTR_PER_USER, *secondary)
    found = {
        ratio.name: compare(ratio, champion, challenger, look, variant)
        for ratio in ratios
        if ratio.covariates is None or _is_explained_before(ratio, champion, challenger)
    }
    is_explained = _is_explained_before(CTR_CUPED, champion, challenger)
    return Arm(
        variant=variant,
        model_version=model_version,
        ctr=found.pop(CTR.name),
        ctr_per_query=found.pop(CTR_PER_QUERY.name),
        ctr_per_user=found.pop(CTR_PER_USER.name),
        cuped=compare(CTR_CUPED, champion, challenger, look, variant) if is_explained else None,
        secondary={name: comparison for name, comparison in found.items() if comparison is not None},
    )


def _is_explained_before(ratio: Ratio, champion: Aggregates, challenger: Aggregates) -> bool:
    """Whether CUPED is possible: behaviour before the test is known, and explains part of that in it, not all.

    What it explains is checked over the users of each variant, whose remaining variances become the interval.
    """
    if ratio.covariates is None or not all(
        ratio.covariates[0] in side.mean_ and side.mean(ratio.covariates[0])
        for side in (champion, challenger)
    ):
        return False
    names = (ratio.numerator, ratio.denominator)
    pooled = ratio.alone(champion) + ratio.alone(challenger)
    before = pooled.ratio_var(*ratio.covariates)
    if not before > 0:
        return False
    slope = pooled.ratio_cov(*names, *ratio.covariates) / before
    variance = remaining = 0.0
    for side in (champion, challenger):
        own = side.ratio_var(*names) / side.count()
        explained = 2 * slope * side.ratio_cov(*names, *ratio.covariates)
        variance += own
        remaining += own - (explained - slope**2 * side.ratio_var(*ratio.covariates)) / side.count()
    return bool(remaining >= _NOTHING_LEFT * variance)


def moments(ratio: Ratio, users: Aggregates) -> RatioMoments:
    """The moments of one ratio."""
    names = (ratio.numerator, ratio.denominator)
    values = (
        users.count(),
        *(users.mean(name) for name in names),
        *(users.var(name) for name in names),
        users.cov(*names),
    )
    return RatioMoments(*(np.asarray(value, dtype=np.float64) for value in values))
