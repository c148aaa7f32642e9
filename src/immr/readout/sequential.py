"""Always-valid inference: it holds at every look, and not only at a planned one.

Asymptotic confidence sequences with a normal mixture: I. Waudby-Smith, D. Arbour, R. Sinha, E. H. Kennedy and
A. Ramdas, *Time-uniform central limit theory and asymptotic confidence sequences*, arXiv 2103.06476 (2021).
Ours: the estimate is a difference of ratios over users, and users who come back change their own sums between
two looks. `python -m benchmarks.experiment` measures how often the intervals then miss.

Coverage is asymptotic and does not hold for the first looks, so callers require a minimum number of users.
Functions take floats or arrays, one entry per look.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt


def tuned_rho(users: float, alpha: float) -> float:
    """The ρ that makes the interval narrowest at this number of users.

    It must be fixed before the data are seen.
    """
    return math.sqrt((-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / users)


def always_valid_half_width(
    standard_error: npt.ArrayLike, users: npt.ArrayLike, rho: float, alpha: float
) -> npt.NDArray[np.float64]:
    """Half the width of the (1 − α) confidence sequence.

    With σ̂² = users × standard_error² this is the paper's boundary,
    σ̂ √(2(tρ²+1) / (t²ρ²) × log(√(tρ²+1) / α)), at t = users.

    Args:
        standard_error: Of the estimate at each look, (L,) or a float.
        users: Users of all variants by then, more than zero; same shape.
        rho: From `tuned_rho`.
        alpha: Probability that any look misses; 0.05 for 95 %.
    """
    intrinsic = np.asarray(users, dtype=np.float64) * rho * rho
    factor = np.sqrt(2 * (intrinsic + 1) / intrinsic * np.log(np.sqrt(intrinsic + 1) / alpha))
    return np.asarray(standard_error * factor, dtype=np.float64)


def log_likelihood_ratio(
    difference: npt.ArrayLike, standard_error: npt.ArrayLike, alternative: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """How much better an alternative explains a difference than no difference; −∞ without a standard error.

    Of two normal distributions, as in A. Wald's sequential probability ratio test (*Sequential Tests of Statistical
    Hypotheses*, 1945). If there is no difference, or one to the other side, the ratio exceeds 1/α at any look with
    probability α at most (Ville's inequality). On average, no test with this error rate finds a difference of exactly
    this size sooner. For estimates, and for an alternative that is estimated as well, this is asymptotic, as above.

    Args:
        difference: The estimate at each look, (L,) or a float; so too below.
        standard_error: Of the estimate.
        alternative: The difference to look for.
    """
    found, error, wanted = (
        np.asarray(each, np.float64) for each in (difference, standard_error, alternative)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = (found * wanted - wanted**2 / 2) / error**2
    return np.where(error > 0, ratio, -np.inf)
