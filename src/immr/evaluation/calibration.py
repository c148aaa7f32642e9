"""Score calibration: does a higher cosine mean a better answer? Pure functions.

A cosine is not a probability. These functions report the share of correct hits at each score, and the error
of reading the score as that share.

Shapes: Q queries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from immr.evaluation.bootstrap import ClusterIds, Estimate, Values
from immr.evaluation.metrics import BoolArray
from immr.evaluation.proportions import mean_estimates

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
    cluster_Q = np.arange(len(scores_Q)) if clusters_Q is None else np.asarray(clusters_Q)
    for number in np.unique(number_Q):
        inside_Q = number_Q == number
        count, score = int(inside_Q.sum()), float(scores_Q[inside_Q].mean())
        [share] = mean_estimates(
            right_Q[inside_Q, None].astype(np.float64), [cluster_Q[inside_Q]], confidence
        )
        error += count / len(scores_Q) * abs(score - share.mean)
        bins.append(Bin(number * BIN_WIDTH, (number + 1) * BIN_WIDTH, count, score, share))
    return Calibration(tuple(bins), error, ranking_quality(scores_Q, right_Q))


def ranking_quality(scores_Q: Values, right_Q: BoolArray) -> float:
    """Probability that a right answer outscores a wrong one, ties counting half: the area under the ROC."""
    right, wrong = int(right_Q.sum()), int((~right_Q).sum())
    if not right or not wrong:
        return float("nan")
    wrong_scores = np.sort(scores_Q[~right_Q])
    below = np.searchsorted(wrong_scores, scores_Q[right_Q], side="left")
    not_above = np.searchsorted(wrong_scores, scores_Q[right_Q], side="right")
    return float((below + not_above).sum() / (2 * right * wrong))
