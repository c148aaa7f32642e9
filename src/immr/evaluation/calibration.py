"""Does a higher score mean a better answer? Pure functions over first answers' scores and who is right.

Shapes: Q queries. The score is a cosine and nothing makes it a probability; so this says how often an answer
of each score is right, and by how much a reader who takes the cosine for that share would be wrong (ECE).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from immr.evaluation.bootstrap import Interval, Values
from immr.evaluation.metrics import BoolArray

BIN_WIDTH = 0.1


@dataclass(frozen=True, slots=True)
class Bin:
    """The answers whose score is in [low, high)."""

    low: float
    high: float
    answers: int
    score: float  # their mean
    right: Interval  # the share that is right, with its Wilson interval


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far the score can be trusted."""

    bins: tuple[Bin, ...]  # those with answers, lowest score first
    error: float  # expected calibration error: mean |score − share right| over answers
    order: float  # chance that a right answer scores above a wrong one; nan where there are not both


def calibration(scores_Q: Values, right_Q: BoolArray, confidence: float = 0.95) -> Calibration:
    """Sort the answers into bins a tenth wide.

    Expected calibration error as in arXiv 1706.04599; the interval of a share is Wilson's (1927).

    Args:
        scores_Q: of each query's first answer.
        right_Q: whether that answer is right.
        confidence: of the bins' intervals.

    Raises:
        ValueError: no query, or lengths that differ.
    """
    if scores_Q.shape != right_Q.shape or scores_Q.ndim != 1 or not len(scores_Q):
        raise ValueError(f"calibration needs equal (Q,) arrays, not {scores_Q.shape} and {right_Q.shape}")
    scores_Q = scores_Q.astype(np.float64)
    # a float32 cosine of 0.7 is 0.699999988
    number_Q = np.floor(np.round(scores_Q, 6) / BIN_WIDTH + 1e-9).astype(np.int64)
    bins, error = [], 0.0
    for number in np.unique(number_Q):
        inside_Q = number_Q == number
        count, score = int(inside_Q.sum()), float(scores_Q[inside_Q].mean())
        share = share_interval(int(right_Q[inside_Q].sum()), count, confidence)
        error += count / len(scores_Q) * abs(score - share.mean)
        bins.append(Bin(number * BIN_WIDTH, (number + 1) * BIN_WIDTH, count, score, share))
    return Calibration(tuple(bins), error, ranking_quality(scores_Q, right_Q))


def share_interval(successes: int, count: int, confidence: float) -> Interval:
    """Wilson's interval of successes / count; honest for few and for shares near 0 and 1."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * (share * (1 - share) / count + z**2 / (4 * count**2)) ** 0.5
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


def ranking_quality(scores_Q: Values, right_Q: BoolArray) -> float:
    """Chance that a right answer scores above a wrong one, ties counting half: the area under the ROC."""
    right, wrong = int(right_Q.sum()), int((~right_Q).sum())
    if not right or not wrong:
        return float("nan")
    wrong_scores = np.sort(scores_Q[~right_Q])
    below = np.searchsorted(wrong_scores, scores_Q[right_Q], side="left")
    not_above = np.searchsorted(wrong_scores, scores_Q[right_Q], side="right")
    return float((below + not_above).sum() / (2 * right * wrong))
