"""Intervals of a mean of values from 0 to 1, such as a recall or a CTR, whose trials succeed together. Pure.

Photos of one shopper, or of one product, are right or wrong together, and so are the clicks of one user. Wilson's
interval is therefore computed for as many independent trials as these are worth (E. L. Korn and B. I. Graubard,
"Confidence Intervals for Proportions with Small Expected Number of Positive Counts Estimated from Survey Data",
1998). It also holds near 0 and 1; a bootstrap of trials that are all right has no width. Trials that depend on each
other in two ways have a variance for each way, minus that of the trials that share both (A. C. Cameron, J. B. Gelbach
and D. L. Miller, "Robust Inference With Multiway Clustering", 2011). Unequal clusters count as (Σ size)² / Σ size².
The combination is ours; `benchmarks.evaluation.recall_intervals` simulates how often the truth is covered.

Shapes: Q trials, C clusters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from immr.evaluation.bootstrap import ClusterIds, Estimate, Values


def wilson(successes: float, trials: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (E. B. Wilson, JASA 1927); (0, 1) without trials.

    It is accurate for few trials and for proportions near 0 and 1. Trials have to be independent.

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


@dataclass(frozen=True, slots=True)
class ClusterSums:
    """Sums over clusters, whose trials may succeed together.

    Attributes:
        trials: Σ size.
        squared_sizes: Σ size².
        squared_residuals: Σ (sum of the cluster's values − mean × size)².
    """

    trials: float
    squared_sizes: float
    squared_residuals: float

    def variance_factor(self, variance: float, confidence: float) -> tuple[float, float]:
        """How many times larger the variance of the mean is than that of independent trials.

        If nothing varies, nothing shows how far trials depend on each other: a cluster then counts as one trial.

        Args:
            variance: Of one trial.
            confidence: Of the interval.

        Returns:
            The factor, and the same with Student's quantile in place of the normal one; infinite for one cluster.
        """
        from scipy.special import stdtrit

        effective = self.trials**2 / self.squared_sizes
        if effective - 1 < 1e-9:
            return math.inf, math.inf
        factor = self.squared_sizes / self.trials
        if variance > 0:
            factor = effective / (effective - 1) * self.squared_residuals / (self.trials * variance)
        tail = (1 + confidence) / 2
        quantile = float(stdtrit(effective - 1, tail)) / NormalDist().inv_cdf(tail)
        return factor, factor * quantile**2


def share_interval(
    mean: float, trials: float, confidence: float = 0.95, factor: float = 1.0
) -> tuple[float, float]:
    """Wilson's interval of a mean between 0 and 1 whose variance is `factor` times that of independent trials."""
    return wilson(mean * trials / factor, trials / factor, confidence)


def mean_estimates(
    values_QM: Values, clusterings: Sequence[ClusterIds], confidence: float = 0.95
) -> list[Estimate]:
    """Mean and interval of each column.

    Args:
        values_QM: (Q, M) values from 0 to 1; Q ≥ 1.
        clusterings: One or two, each with the cluster of each row, (Q,); rows that share no cluster are independent.
        confidence: Coverage of the interval.

    Raises:
        ValueError: There are no rows, lengths differ, or there are more than two clusterings.
    """
    if values_QM.ndim != 2 or not len(values_QM):
        raise ValueError(f"an interval needs a (Q, M) array with Q ≥ 1, not {values_QM.shape}")
    if not 1 <= len(clusterings) <= 2 or any(len(ids) != len(values_QM) for ids in clusterings):
        raise ValueError(f"{len(values_QM)} rows need one or two clusterings of as many ids")
    codes = [np.unique(np.asarray(ids), return_inverse=True)[1] for ids in clusterings]
    if len(codes) == 2:
        codes.append(codes[0] * (codes[1].max() + 1) + codes[1])
        codes[2] = np.unique(codes[2], return_inverse=True)[1]
    return [_estimate(values_Q, codes, confidence) for values_Q in values_QM.T]


def _estimate(values_Q: Values, codes: Sequence[npt.NDArray[np.int64]], confidence: float) -> Estimate:
    mean = float(values_Q.mean())
    residual_Q = values_Q - mean
    variance = float(np.square(residual_Q).mean())
    factors = []
    for code_Q in codes:
        size_C = np.bincount(code_Q)
        sums = ClusterSums(
            len(values_Q),
            float(np.square(size_C).sum()),
            float(np.square(np.bincount(code_Q, residual_Q)).sum()),
        )
        factors.append(sums.variance_factor(variance, confidence))
    ways = [with_student for _, with_student in factors[:2]]
    shared = factors[2][0] if len(factors) == 3 else 0.0
    factor = max(*ways, 1.0) if math.inf in ways else max(sum(ways) - shared, *ways, 1.0)
    if 0 < mean < 1 and variance > 0:  # 1 for shares; less for values between 0 and 1
        factor *= variance / (mean * (1 - mean))
    return Estimate(mean, *share_interval(mean, len(values_Q), confidence, factor))
