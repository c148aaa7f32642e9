"""Cluster bootstrap: confidence intervals of a mean and of a paired difference. Pure, seeded, vectorised.

Photos taken by one shopper, or of one product, succeed and fail together, so whole clusters are resampled
(Davison and Hinkley, 1997, section 3.8). Quantiles are widened for few clusters (Hesterberg, 2015, "expanded
percentile interval"), without which ten clusters would cover too little. A few large clusters among many
small ones count as few (Carter, Schnepel and Steigerwald, 2017, "effective number of clusters").

A bootstrap knows only what it has seen. Where two versions agree on all of ten photos, each resample says that they
are equal, but one that is worse on 5 % of all photos agrees on ten in 60 % of the cases; and no resample of three
shoppers is worse than the worst of them. `cautious_difference` is therefore wider. Its parts are known, their
combination is ours; `benchmarks.evaluation.gate` simulates how often a worse version passes.

- What was not seen adds z² m / Q in quadrature, for m photos that fail together. In Wilson's interval of a share
  (1927, m = 1) half of it does, and up to as much moves the centre; here the mean stays the centre.
- With few clusters it reaches at least as far as Student's t with the cluster-robust standard error and G − 1
  degrees of freedom (Cameron and Miller, 2015, section VI), where G is the effective number of clusters.

Shapes: Q queries, M metrics, C clusters, R bootstrap rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
ClusterIds = npt.NDArray[np.int64] | Sequence[str] | Sequence[int]

_Ints = npt.NDArray[np.int64]
_FEW_CLUSTERS = 8  # with fewer, even the worst resample may lie inside Student's interval of 95 %
_MAX_CELLS = 4_000_000  # rounds × clusters held in memory


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its confidence interval, which is infinite if there is only one cluster."""

    mean: float
    low: float
    high: float


def mean_estimates(
    values_QM: Values, clusters_Q: ClusterIds, rounds: int, confidence: float, seed: int
) -> list[Estimate]:
    """Mean and interval of each column. All columns share the same resamples.

    Args:
        values_QM: (Q, M), one row per query; Q ≥ 1.
        clusters_Q: (Q,) cluster of each query; only queries of different clusters are independent.
        rounds: bootstrap rounds, R.
        confidence: coverage of the interval, between 0 and 1.
        seed: makes the interval reproducible.

    Raises:
        ValueError: no queries, lengths differ, or `rounds` or `confidence` is out of range.
    """
    if values_QM.ndim != 2 or not len(values_QM):
        raise ValueError(f"the bootstrap needs a (Q, M) array with Q ≥ 1, not {values_QM.shape}")
    if len(clusters_Q) != len(values_QM):
        raise ValueError(f"{len(clusters_Q)} cluster ids do not match {len(values_QM)} queries")
    if rounds < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"the bootstrap needs rounds ≥ 1 and 0 < confidence < 1, not {rounds} and {confidence}"
        )
    means_M = values_QM.mean(axis=0)
    _, cluster_of_Q, sizes_C = np.unique(np.asarray(clusters_Q), return_inverse=True, return_counts=True)
    if len(sizes_C) == 1:
        return [Estimate(float(mean), -math.inf, math.inf) for mean in means_M]
    sums_CM = np.zeros((len(sizes_C), values_QM.shape[1]))
    np.add.at(sums_CM, cluster_of_Q, values_QM)
    resampled = _draw_counts(len(sizes_C), rounds, seed)
    means_RM = np.concatenate([(draws @ sums_CM) / (draws @ sizes_C)[:, None] for draws in resampled])
    tail = _expanded_tail((1 - confidence) / 2, float(sizes_C.sum() ** 2 / (sizes_C**2).sum()))
    low_M, high_M = np.quantile(means_RM, [tail, 1 - tail], axis=0)
    return [
        Estimate(float(mean), float(low), float(high))
        for mean, low, high in zip(means_M, low_M, high_M, strict=True)
    ]


def mean_estimate(
    values_Q: Values, clusters_Q: ClusterIds, rounds: int, confidence: float, seed: int
) -> Estimate:
    """Mean and interval of (Q,) values; see `mean_estimates`."""
    return mean_estimates(values_Q[:, None], clusters_Q, rounds, confidence, seed)[0]


def difference_estimate(
    candidate_Q: Values,
    champion_Q: Values,
    clusters_Q: ClusterIds,
    rounds: int,
    confidence: float,
    seed: int,
) -> Estimate:
    """Mean and interval of candidate − champion, both (Q,) over the same queries in the same order.

    Pairing removes the difficulty of each query, so a difference shows with far fewer queries than two
    separate intervals would need.

    Raises:
        ValueError: the shapes differ.
    """
    if candidate_Q.shape != champion_Q.shape:
        raise ValueError(
            f"a paired difference needs equal shapes, not {candidate_Q.shape} and {champion_Q.shape}"
        )
    return mean_estimate(candidate_Q - champion_Q, clusters_Q, rounds, confidence, seed)


_E = TypeVar("_E", bound=Estimate)


@dataclass(frozen=True, slots=True)
class CautiousEstimate(Estimate):
    """A difference with its interval; `unseen` is the part of the half-width that allows for a small sample."""

    unseen: float = 0.0


def cautious_difference(
    candidate_Q: Values,
    champion_Q: Values,
    clusters_Q: ClusterIds,
    rounds: int,
    confidence: float,
    seed: int,
) -> CautiousEstimate:
    """Mean and interval of candidate − champion, for metrics from 0 to 1; no finite bound is beyond ±1.

    Args:
        candidate_Q: (Q,) values.
        champion_Q: the same of the champion, in the same order.
        clusters_Q: (Q,) cluster of each query.
        rounds: of the bootstrap.
        confidence: coverage of the interval.
        seed: of the bootstrap.

    Raises:
        ValueError: see `difference_estimate`.
    """
    seen = difference_estimate(candidate_Q, champion_Q, clusters_Q, rounds, confidence, seed)
    difference_Q = candidate_Q - champion_Q
    _, cluster_Q, size_C = np.unique(np.asarray(clusters_Q), return_inverse=True, return_counts=True)
    unseen = _unseen(difference_Q, cluster_Q, size_C, confidence)
    least = _student(difference_Q, cluster_Q, size_C, confidence)
    below, above = (max(reach, least) for reach in (seen.mean - seen.low, seen.high - seen.mean))
    low, high = seen.mean - math.hypot(below, unseen), seen.mean + math.hypot(above, unseen)
    if len(size_C) > 1:
        low, high = max(low, -1.0), min(high, 1.0)
    return CautiousEstimate(seen.mean, low, high, unseen)


def over_clusterings(estimate: Callable[[ClusterIds], _E], clusterings: Sequence[Sequence[str]]) -> _E:
    """A difference over photos that depend on each other in one or two ways, such as by user and by class.

    Variances add up, minus that of photos that share both (Cameron, Gelbach and Miller, "Robust Inference With
    Multiway Clustering", 2011); so do the squared distances from the mean to each bound.

    Args:
        estimate: Mean and interval with these clusters.
        clusterings: One or two, each with the cluster of every photo.
    """
    one = estimate(clusterings[0])
    if len(clusterings) == 1:
        return one
    other = estimate(clusterings[1])
    shared = estimate(list(map("{}\n{}".format, *clusterings)))
    found = (one, other, shared)
    below = _joined(*(each.mean - each.low for each in found))
    above = _joined(*(each.high - each.mean for each in found))
    wider = max(one, other, key=lambda each: each.high - each.low)
    return replace(wider, low=one.mean - below, high=one.mean + above)


def _joined(one: float, other: float, shared: float) -> float:
    wider = max(one, other)
    return wider if math.isinf(wider) else max(math.sqrt(max(one**2 + other**2 - shared**2, 0.0)), wider)


def _unseen(difference_Q: Values, cluster_Q: _Ints, size_C: _Ints, confidence: float) -> float:
    """z² m / Q, with m photos that differ together.

    m is estimated from the photos that differ, and from one whole cluster of mean size, which decides where
    nothing differs.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    size = float((size_C**2).sum() / size_C.sum())  # of a photo's cluster
    sums_C = np.bincount(cluster_Q, difference_Q)
    together = float((np.square(sums_C).sum() + size**2) / (np.square(difference_Q).sum() + size))
    return z**2 * max(together, 1.0) / len(difference_Q)


def _student(difference_Q: Values, cluster_Q: _Ints, size_C: _Ints, confidence: float) -> float:
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


def _expanded_tail(tail: float, clusters: float) -> float:
    """Tail probability that makes a percentile interval as wide as Student's t with C − 1 degrees.

    Args:
        tail: of the interval, on each side.
        clusters: C, more than 1: (Σ size)² / Σ size², which is their number if all have the same size.
    """
    from scipy.special import ndtr, stdtrit

    return float(ndtr(math.sqrt(clusters / (clusters - 1)) * stdtrit(clusters - 1, tail)))


def _draw_counts(clusters: int, rounds: int, seed: int) -> Iterator[Values]:
    """(r, C) arrays, R rows in total: how often each round draws each cluster."""
    generator = np.random.default_rng(seed)
    block = max(1, _MAX_CELLS // clusters)
    for start in range(0, rounds, block):
        size = min(block, rounds - start)
        drawn = generator.integers(0, clusters, (size, clusters)) + np.arange(size)[:, None] * clusters
        yield np.bincount(drawn.ravel(), minlength=size * clusters).reshape(size, clusters).astype(np.float64)
