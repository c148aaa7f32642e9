"""How many users, and days, a comparison of CTR still needs to find an effect of a given size.

The delta method's variance per user, from the users seen so far, in the sample size formula of two means.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from immr.errors import ExperimentError
from immr.readout.comparison import DEFAULT_LOOK, Look, Ratio
from immr.readout.sequential import always_valid_half_width, tuned_rho

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
        """Days still to go if new users keep coming as they did; None before the first.

        It is an upper bound where users come back, for their clicks get more certain as well.
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
    """Users that are needed to find a relative effect with this power.

    Args:
        ratio: The metric.
        champion: The champion's users so far: their variance is taken for that of all.
        effect: Relative, not zero: 0.05 for +5 %.
        share: The challenger's share of the users.
        power: Chance that the interval leaves out zero.
        look: Confidence, and where the always-valid interval is narrowest.

    Returns:
        None where the champion has no value, or its users do not vary.

    Raises:
        ExperimentError: effect, share or power without sense.
    """
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
    difference = abs(effect) * value
    # Users whose clicks are multiplied by 1 + effect vary by its square.
    deviation = math.sqrt(per_user * (1 / (1 - share) + (1 + effect) ** 2 / share))
    alpha, reach = 1 - look.confidence, NormalDist().inv_cdf(power)
    one_look = ((NormalDist().inv_cdf(1 - alpha / 2) + reach) * deviation / difference) ** 2
    return Plan(
        effect=effect,
        power=power,
        users_one_look=math.ceil(one_look),
        users_always_valid=_always_valid(deviation, difference, reach, look, at_least=math.ceil(one_look)),
    )


def _always_valid(deviation: float, difference: float, reach: float, look: Look, at_least: int) -> int:
    """Fewest users at which the always-valid interval leaves out zero with the power; by bisection."""
    alpha = 1 - look.confidence
    rho = tuned_rho(look.tuned_for_users, alpha)

    def enough(users: int) -> bool:
        error = deviation / math.sqrt(users)
        return always_valid_half_width(error, users, rho, alpha) + reach * error <= difference

    low = high = at_least
    while not enough(high):
        low, high = high, 2 * high
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
