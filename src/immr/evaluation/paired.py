"""The difference of two versions on the same photos, with an interval that holds for few photos. (ours)

The bootstrap knows only what it has seen. Where two versions agree on all of ten photos, each resample says that
they are equal, but one that is worse on 5 % of all photos agrees on ten in 60 % of the cases. And no resample of
three shoppers is worse than the worst of them. So the interval of `bootstrap.difference_estimate` is widened in
two ways:

- for what was not seen: as if z² further groups of photos had differed, as in Wilson's interval (1927), which
  is z² / Q wide if nothing was seen;
- for few clusters: at least to Student's t with the cluster-robust standard error.

Shapes: Q queries, C clusters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from immr.evaluation.bootstrap import ClusterIds, Estimate, Values, difference_estimate

Ints = npt.NDArray[np.int64]
_FEW_CLUSTERS = 8  # with fewer, the worst resample lies inside Student's interval at 97.5 %


@dataclass(frozen=True, slots=True)
class PairedEstimate(Estimate):
    """A difference with its interval, and the part of its half-width that is due to what was not seen."""

    unseen: float = 0.0


def paired_difference(
    candidate_Q: Values,
    champion_Q: Values,
    clusters_Q: ClusterIds,
    rounds: int,
    confidence: float,
    seed: int,
) -> PairedEstimate:
    """Mean and interval of candidate − champion, for metrics from 0 to 1.

    Args:
        candidate_Q: (Q,) values.
        champion_Q: the same of the champion, in the same order.
        clusters_Q: (Q,) cluster of each query.
        rounds: of the bootstrap.
        confidence: coverage of the interval.
        seed: of the bootstrap.

    Raises:
        ValueError: see `bootstrap.difference_estimate`.
    """
    seen = difference_estimate(candidate_Q, champion_Q, clusters_Q, rounds, confidence, seed)
    difference_Q = candidate_Q - champion_Q
    _, cluster_Q, size_C = np.unique(np.asarray(clusters_Q), return_inverse=True, return_counts=True)
    unseen = _unseen(difference_Q, cluster_Q, size_C, confidence)
    least = _student(difference_Q, cluster_Q, size_C, confidence)
    below, above = (max(reach, least) for reach in (seen.mean - seen.low, seen.high - seen.mean))
    return PairedEstimate(
        seen.mean, seen.mean - math.hypot(below, unseen), seen.mean + math.hypot(above, unseen), unseen
    )


def _unseen(difference_Q: Values, cluster_Q: Ints, size_C: Ints, confidence: float) -> float:
    """z² m / Q, with m photos that differ together.

    m is estimated from the photos that differ, and from one whole cluster of mean size, which decides where
    nothing differs.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    size = float((size_C**2).sum() / size_C.sum())  # of a photo's cluster
    sums_C = np.bincount(cluster_Q, difference_Q)
    together = float((np.square(sums_C).sum() + size**2) / (np.square(difference_Q).sum() + size))
    return z**2 * max(together, 1.0) / len(difference_Q)


def _student(difference_Q: Values, cluster_Q: Ints, size_C: Ints, confidence: float) -> float:
    """Half-width by Student's t with cluster-robust standard errors; 0 for many clusters, infinite for one."""
    from scipy.special import stdtrit

    effective = float(size_C.sum() ** 2 / (size_C**2).sum())
    if effective >= _FEW_CLUSTERS:
        return 0.0
    if len(size_C) == 1:
        return math.inf
    residual_C = np.bincount(cluster_Q, difference_Q - difference_Q.mean())
    clusters = len(size_C)
    error = math.sqrt(clusters / (clusters - 1) * float(np.square(residual_C).sum())) / len(difference_Q)
    return float(stdtrit(effective - 1, (1 + confidence) / 2)) * error if error else 0.0
