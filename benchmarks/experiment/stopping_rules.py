"""Two sets of rules that read a simulated test out at every hourly look: IMMR's, and tests for one look.

Part of `python -m benchmarks.experiment`. IMMR's rules are the product's functions, called for all looks at
once; tests/readout/test_decision_at_looks.py checks them against `decide`. The one-look rules are those that
IMMR had before: correct for a single look at independent searches.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2, norm

from benchmarks.experiment.simulated_tests import Looks, World
from immr.readout.comparison import Look
from immr.readout.decision import DecisionPolicy
from immr.readout.guardrails import ALPHA as GUARDRAIL_ALPHA
from immr.readout.guardrails import excess_lower_bound
from immr.readout.sample_ratio import ALPHA, mismatch_p_values
from immr.readout.sequential import always_valid_half_width, log_likelihood_ratio, tuned_rho
from immr.readout.user_moments import RatioMoments, rate_difference

Verdicts = dict[str, npt.NDArray[np.bool_]]
"""By verdict, whether it is given at each look, (H,)."""
Rules = Callable[[Looks, World], Verdicts]

POLICY = DecisionPolicy()
_ONE_LOOK = Look(planned_users=2000)


def immr_rules(seen: Looks, world: World, challengers: int = 1) -> Verdicts:
    """IMMR's rules for one of so many challengers, planned for the users of the whole test in `world`.

    `world.share` is the challenger's share of its users and the champion's.
    """
    look = Look(planned_users=world.users).shared_by(challengers)
    champion, challenger = seen.clicks
    users, fewest = champion.users + challenger.users, np.minimum(champion.users, challenger.users)
    difference, error = rate_difference(champion, challenger)
    rho = tuned_rho(look.planned_users, look.alpha)
    half = always_valid_half_width(error, np.maximum(users, 1), rho, look.alpha)
    shares = np.array([1 - world.share, world.share])
    withheld = mismatch_p_values(np.stack([champion.users, challenger.users]), shares) < ALPHA
    per_user, error_per_user = rate_difference(*seen.ctr_per_user)
    loss = -POLICY.brake_at_loss * seen.ctr_per_user[0].rate
    brakes = log_likelihood_ratio(per_user, error_per_user, loss) > np.log(challengers / POLICY.brake_alpha)
    brakes &= fewest >= POLICY.min_users_to_brake
    enough = (fewest >= POLICY.min_users) & ~withheld
    rails = POLICY.guardrails
    guarded, alpha = challenger.users >= rails.min_users, GUARDRAIL_ALPHA / challengers
    return {
        "promote": enough & (difference - half > 0),
        "CTR": (brakes & ~withheld) | (enough & (difference + half < 0)),
        "error rate": guarded & (excess_lower_bound(*seen.fallbacks, alpha) > rails.extra_fallback),
        "zero results": guarded & (excess_lower_bound(*seen.empty, alpha) > rails.extra_zero_result),
        "latency": guarded & (excess_lower_bound(*seen.slow, alpha) > rails.extra_slow),
        "withheld": withheld,
    }


def one_look_rules(seen: Looks, world: World) -> Verdicts:
    """Rules for one look: a brake on the 95 % interval, Wilson's bound on users, chi-square at 0.1 %."""
    champion, challenger = seen.clicks
    users, fewest = champion.users + challenger.users, np.minimum(champion.users, challenger.users)
    difference = challenger.rate - champion.rate
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = sum(
            side.residual_variance(side.rate) / side.denominator**2 / side.users for side in seen.clicks
        )
        expected = world.share * users
        square = (challenger.users - expected) ** 2 / (expected * (1 - world.share))
    error = np.sqrt(variance)
    rho = tuned_rho(_ONE_LOOK.planned_users, _ONE_LOOK.alpha)
    half = always_valid_half_width(error, np.maximum(users, 1), rho, _ONE_LOOK.alpha)
    withheld = chi2.sf(square, 1) < 0.001
    brakes = (
        (difference <= -0.5 * champion.rate) & (difference + norm.ppf(0.975) * error < 0) & (fewest >= 50)
    )
    return {
        "promote": (fewest >= 200) & (difference - half > 0) & ~withheld,
        "CTR": (brakes | ((fewest >= 200) & (difference + half < 0))) & ~withheld,
        "error rate": _wilson_above(*seen.fallbacks, 0.02),
        "zero results": _wilson_above(*seen.empty, 0.05),
        "withheld": withheld,
    }


def _wilson_above(champion: RatioMoments, challenger: RatioMoments, allowed: float) -> npt.NDArray[np.bool_]:
    """Whether Wilson's 99.9 % lower bound of the challenger's share, with users as trials, is too high."""
    limit = champion.rate + allowed
    with np.errstate(invalid="ignore", divide="ignore"):
        score = (challenger.rate - limit) / np.sqrt(limit * (1 - limit) / challenger.users)
    return np.asarray((challenger.users >= 10) & (score > 3.09))
