"""Score calibration: does a higher cosine mean a better answer? Pure functions.

A cosine is not a probability. These functions report the share of correct hits at each score, and the error
of reading the score as that share.

Shapes: Q queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from immr.evaluation.bootstrap import ClusterIds, Estimate, Values
from immr.evaluation.metrics import BoolArray, IntArray
from immr.evaluation.proportions import wilson

BIN_WIDTH = 0.1


@dataclass(frozen=True, slots=True)
class Bin:
    """The answers with a score in [low, high)."""

    low: float
    high: float
    answers: int
    score: float  # their mean score
    right: Estimate  # the share that is right, with its interval


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far the score can be trusted."""

    bins: tuple[Bin, ...]  # non-empty bins, lowest score first
    error: float  # expected calibration error: mean |score − share right| over answers
    order: float  # probability that a right answer outscores a wrong one; nan if all are right or all wrong


def calibration(
    scores_Q: Values, right_Q: BoolArray, confidence: float = 0.95, clusters_Q: ClusterIds | None = None
) -> Calibration:
    """Group answers into bins of width 0.1 and compare score with accuracy.

    The expected calibration error is that of Guo et al. (arXiv 1706.04599).

    Args:
        scores_Q: score of each query's first answer.
        right_Q: whether that answer is right.
        confidence: of the bins' intervals.
        clusters_Q: cluster of each query; answers of one cluster may be right or wrong together.

    Raises:
        ValueError: no queries, or lengths differ.
    """
    if scores_Q.shape != right_Q.shape or scores_Q.ndim != 1 or not len(scores_Q):
        raise ValueError(f"calibration needs equal (Q,) arrays, not {scores_Q.shape} and {right_Q.shape}")
    scores_Q = scores_Q.astype(np.float64)
    # rounded, because a float32 cosine of 0.7 is 0.699999988
    number_Q = np.floor(np.round(scores_Q, 6) / BIN_WIDTH + 1e-9).astype(np.int64)
    bins, error = [], 0.0
    cluster_Q = None if clusters_Q is None else np.unique(np.asarray(clusters_Q), return_inverse=True)[1]
    for number in np.unique(number_Q):
        inside_Q = number_Q == number
        count, score = int(inside_Q.sum()), float(scores_Q[inside_Q].mean())
        effect = (
            1.0 if cluster_Q is None else _design_effect(right_Q[inside_Q], cluster_Q[inside_Q], confidence)
        )
        share = share_estimate(int(right_Q[inside_Q].sum()), count, confidence, effect)
        error += count / len(scores_Q) * abs(score - share.mean)
        bins.append(Bin(number * BIN_WIDTH, (number + 1) * BIN_WIDTH, count, score, share))
    return Calibration(tuple(bins), error, ranking_quality(scores_Q, right_Q))


def share_estimate(successes: int, count: int, confidence: float, effect: float = 1.0) -> Estimate:
    """successes / count with Wilson's score interval, of count / effect independent trials."""
    low, high = wilson(successes / effect, count / effect, confidence)
    return Estimate(successes / count, low, high)


def _design_effect(right_N: BoolArray, cluster_N: IntArray, confidence: float) -> float:
    """How many answers are worth one independent answer, at least 1 (E. L. Korn and B. I. Graubard, "Confidence
    Intervals for Proportions with Small Expected Number of Positive Counts Estimated from Survey Data", 1998).

    If all are right, or all wrong, nothing shows how far they depend on each other: a cluster then counts as one.
    """
    from scipy.special import stdtrit

    size_C = np.bincount(cluster_N)
    size_C = size_C[size_C > 0]
    clusters, answers, share = len(size_C), len(right_N), float(right_N.mean())
    if clusters == answers:
        return 1.0
    together = float(np.square(size_C).sum() / answers)
    if clusters == 1 or share in (0.0, 1.0):
        return together
    residual_C = np.bincount(cluster_N, right_N - share)
    variance = clusters / (clusters - 1) * float(np.square(residual_C).sum())
    tail = (1 + confidence) / 2
    quantile = float(stdtrit(clusters - 1, tail)) / NormalDist().inv_cdf(tail)
    return max(variance / (answers * share * (1 - share)), 1.0) * quantile**2


def ranking_quality(scores_Q: Values, right_Q: BoolArray) -> float:
    """Probability that a right answer outscores a wrong one, ties counting half: the area under the ROC."""
    right, wrong = int(right_Q.sum()), int((~right_Q).sum())
    if not right or not wrong:
        return float("nan")
    wrong_scores = np.sort(scores_Q[~right_Q])
    below = np.searchsorted(wrong_scores, scores_Q[right_Q], side="left")
    not_above = np.searchsorted(wrong_scores, scores_Q[right_Q], side="right")
    return float((below + not_above).sum() / (2 * right * wrong))
