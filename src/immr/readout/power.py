"""How many users and days a comparison needs to find an effect of a given size.

Uses the sample size formula for two means, with the champion's variance per user by the delta method.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from immr.errors import ExperimentError
from immr.experiment.definition import Experiment
from immr.readout.comparison import DEFAULT_LOOK, Look, Ratio

if TYPE_CHECKING:
    from tea_tasting.aggr import Aggregates


@dataclass(frozen=True, slots=True)
class Plan:
    """Users of both variants together, for one look at the end and for looks at any time."""

    effect: float  # relative: 0.05 for a lift of 5 %
    power: float
    users_one_look: int
    users_always_valid: int

    def days(self, users_so_far: int, days_so_far: float, always_valid: bool = True) -> float | None:
        """Days left if new users keep arriving at the same pace; None before the first user.

        This is an upper bound if users come back, because that makes each user's rate more certain too.
        """
        if users_so_far <= 0 or days_so_far <= 0:
            return None
        needed = self.users_always_valid if always_valid else self.users_one_look
        return max(needed - users_so_far, 0) / (users_so_far / days_so_far)


def plan(
    ratio: Ratio,
    champion: Aggregates,
    effect: float,
    share: float = 0.5,
    power: float = 0.8,
    look: Look = DEFAULT_LOOK,
) -> Plan | None:
    """Users needed to find a relative effect with the given power.

    Args:
        ratio: The metric.
        champion: Moments of the champion's users so far; their variance is assumed for both variants.
        effect: Relative and not zero: 0.05 for +5 %.
        share: The challenger's share of the users.
        power: Probability that the interval excludes zero.
        look: Confidence, and the number of users at which the always-valid interval is narrowest.

    Returns:
        None if the champion has no clicks yet, or its users do not vary.

    Raises:
        ExperimentError: effect, share or power out of range.
    """
    spread = _spread(ratio, champion, effect, share, power)
    if spread is None:
        return None
    one_look = math.ceil(((look.z + _reach(power)) * spread) ** 2)
    return Plan(
        effect=effect,
        power=power,
        users_one_look=one_look,
        users_always_valid=_always_valid(spread, _reach(power), look, at_least=one_look),
    )


def plan_of(
    experiment: Experiment, ratio: Ratio, champion: Aggregates, effect: float, look: Look
) -> Plan | None:
    """The plan of a test by its shares; None if it is interleaved, or no challenger gets users."""
    challenger = next(iter(experiment.remaining), None)
    if challenger is None or not 0 < challenger.weight < 1 or experiment.kind == "interleave":
        return None
    share = challenger.weight / (challenger.weight + experiment.champion.weight)
    return plan(ratio, champion, effect, share=share, look=look)


def planned_users(
    ratio: Ratio,
    champion: Aggregates,
    effect: float,
    share: float = 0.5,
    power: float = 0.8,
    confidence: float = 0.95,
) -> int | None:
    """Users needed to find the effect at any look, if the always-valid interval is narrowest at that number.

    This is what an experiment stores at its start, see `Experiment.planned_users`. Arguments and errors are
    those of `plan`.
    """
    spread = _spread(ratio, champion, effect, share, power)
    if spread is None:
        return None
    at_best = Look(confidence, planned_users=1).always_valid(1.0, users=1)  # half-width in standard errors
    return math.ceil(((at_best + _reach(power)) * spread) ** 2)


def _reach(power: float) -> float:
    return NormalDist().inv_cdf(power)


def _spread(ratio: Ratio, champion: Aggregates, effect: float, share: float, power: float) -> float | None:
    """Standard deviation of the difference per √user, divided by the difference to find."""
    if effect == 0 or effect <= -1 or not 0 < share < 1 or not 0.5 <= power < 1:
        raise ExperimentError(
            f"no plan for an effect of {effect}, a share of {share} and a power of {power}: give an effect "
            "like 0.05, a share between 0 and 1, and a power of at least 0.5 and below 1"
        )
    if champion.count() < 2 or not champion.mean(ratio.denominator):
        return None
    value = champion.mean(ratio.numerator) / champion.mean(ratio.denominator)
    per_user = champion.ratio_var(ratio.numerator, ratio.denominator)
    if value <= 0 or per_user <= 0:
        return None
    # Clicks that are multiplied by 1 + effect have a variance that is multiplied by its square.
    deviation = math.sqrt(per_user * (1 / (1 - share) + (1 + effect) ** 2 / share))
    return float(deviation / (abs(effect) * value))


def _always_valid(spread: float, reach: float, look: Look, at_least: int) -> int:
    """Fewest users at which the always-valid interval excludes zero with that power, by bisection."""

    def enough(users: int) -> bool:
        error = spread / math.sqrt(users)
        return look.always_valid(error, users) + reach * error <= 1

    low = high = at_least
    while not enough(high):
        low, high = high, 2 * high
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
