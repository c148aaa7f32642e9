"""Wilson's interval of a proportion, for independent trials."""

from __future__ import annotations

import math
from statistics import NormalDist


def wilson(successes: float, trials: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (E. B. Wilson, JASA 1927); (0, 1) without trials.

    It is accurate for few trials and for proportions near 0 and 1. Trials have to be independent. Impressions
    of one user are not, so decisions about variants use `immr.readout.comparison` instead.

    Args:
        successes: At most `trials`.
        trials: Number of independent trials.
        confidence: 0.95 for a 95 % interval.
    """
    if trials <= 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, square = successes / trials, z * z
    centre = (share + square / (2 * trials)) / (1 + square / trials)
    reach = z * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2)) / (1 + square / trials)
    return max(0.0, centre - reach), min(1.0, centre + reach)
