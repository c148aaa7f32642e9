"""How many labels are wrong, and which classes are mistaken for each other. (ours, after known parts)

Two kinds of error are estimated from scores that never saw the label they judge:

- errors that are equally likely for every class: one rate ε for all labels, by maximum likelihood;
- look-alikes: for each pair of classes that photos lie between, the rate at which either label is the other
  class. It is a sparse confusion matrix as in confident learning (Northcutt, Jiang, Chuang, 2021), but
  instead of counting beyond thresholds, two normal distributions are fitted to the difference of the two
  scores (label noise in discriminant analysis: Lawrence, Schölkopf, 2001). A share of wrong labels near a
  half moves both class centres towards each other, so a threshold common to all pairs sees nothing; a
  threshold for each pair does.

Shapes: N photos, P pairs, M (pair, photo) rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from immr.governance.labels.class_scores import SHARPNESS, Bools, ClassScores, Doubles, Ints

_EM_STEPS = 25
_MOST_WRONG = 0.5  # of labels: beyond it, a class and its rival would change places
_MIN_PHOTOS = 3  # between two classes, before they are fitted as a pair
_MIN_LABELLED = 16  # photos of each label; with fewer, two normal distributions fit chance
MIN_SEPARATION = 1.0  # standard deviations between the two means
_COMMON = 0.04  # rate of wrong labels between look-alikes at which a pair needs no evidence beyond its own


def calibrated(log_sum_NS: Doubles, given_score_N: Doubles, class_count: int) -> tuple[float, float]:
    """Sharpness of the scores and share of wrong labels, by maximum likelihood over the labels.

    A label is right with probability 1 − ε, else any other class's: L = Σ log((1−ε) p + ε (1−p)/(C−1)),
    with p the softmax of sharpness × score at the given class; ε by EM, sharpness on a grid.

    Returns:
        (sharpness, ε); (0, 0) without labels or with a single class.
    """
    others = class_count - 1
    if not len(given_score_N) or others < 1:
        return 0.0, 0.0
    best = (-np.inf, 0.0, 0.0)
    for step, sharpness in enumerate((0.0, *SHARPNESS)):
        log_sum_N = log_sum_NS[:, step - 1] if step else np.full(len(given_score_N), np.log(class_count))
        p_N = np.exp(sharpness * (given_score_N - 1) - log_sum_N)
        wrong = 0.2
        for _ in range(_EM_STEPS):
            chance_N = wrong * (1 - p_N) / others
            wrong = float(np.mean(chance_N / ((1 - wrong) * p_N + chance_N + 1e-30)))
            wrong = min(wrong, _MOST_WRONG)
        likelihood = np.log((1 - wrong) * p_N + wrong * (1 - p_N) / others + 1e-30).sum()
        best = max(best, (round(float(likelihood), 6), sharpness, round(wrong, 3)))
    return best[1], best[2]


@dataclass(frozen=True)
class Resemblance:
    """For each photo, the class that it resembles most apart from its own label, and the verdict of that pair."""

    rival_N: Ints  # −1: none
    right_N: (
        Doubles  # probability of the label, given that it is one of the two; NaN where no pair was fitted
    )


def look_alikes(
    scores: ClassScores, given_N: Ints, given_score_N: Doubles, usable_N: Bools, floor: float
) -> Resemblance:
    """Split each photo between its label and its rival.

    Args:
        scores: out-of-fold scores.
        given_N: each photo's label.
        given_score_N: its score.
        usable_N: photos whose label and score count.
        floor: smallest share of a label's photos that are of the other class.
    """
    rival_N, rival_score_N = _rivals(scores, given_N)
    known_N = usable_N & (rival_N >= 0) & np.isfinite(given_score_N) & np.isfinite(rival_score_N)
    right_N = np.full(len(given_N), np.nan)
    pairs_P2 = _pairs(given_N[known_N], rival_N[known_N], scores.class_count)
    if not len(pairs_P2):
        return Resemblance(rival_N, right_N)
    pair_M, photo_M, first_M, margin_M = _rows(scores, given_N, given_score_N, known_N, pairs_P2)
    first_is_right_M, fitted_P = _fit(pair_M, first_M, margin_M, len(pairs_P2), max(floor, 1e-6))
    low, high = np.minimum(given_N, rival_N)[photo_M], np.maximum(given_N, rival_N)[photo_M]
    own_M = (pairs_P2[pair_M, 0] == low) & (pairs_P2[pair_M, 1] == high) & fitted_P[pair_M]
    right_N[photo_M[own_M]] = np.where(first_M, first_is_right_M, 1 - first_is_right_M)[own_M]
    return Resemblance(rival_N, right_N)


def _rivals(scores: ClassScores, given_N: Ints) -> tuple[Ints, Doubles]:
    """The nearest class that is not the given one."""
    if scores.class_count < 2:
        return np.full(len(given_N), -1), np.full(len(given_N), -np.inf)
    column_N = (scores.nearest_NK[:, 0] == given_N).astype(np.int64)
    rows = np.arange(len(given_N))
    return scores.nearest_NK[rows, column_N], scores.nearest_score_NK[rows, column_N]


def _pairs(given_N: Ints, rival_N: Ints, class_count: int) -> Ints:
    """(P, 2) pairs of classes, the lower first, that enough photos lie between."""
    codes = np.minimum(given_N, rival_N) * class_count + np.maximum(given_N, rival_N)
    pairs, photos = np.unique(codes, return_counts=True)
    pairs = pairs[photos >= _MIN_PHOTOS]
    found: Ints = np.stack([pairs // class_count, pairs % class_count], axis=1)
    return found


def _rows(
    scores: ClassScores, given_N: Ints, given_score_N: Doubles, known_N: Bools, pairs_P2: Ints
) -> tuple[Ints, Ints, Bools, Doubles]:
    """(pair, photo, whether its label is the pair's first class, score of the first − score of the second).

    A pair consists of all photos with one of its two labels that resemble one of the two classes most.
    """
    order = np.argsort(given_N, kind="stable")
    order = order[known_N[order]]
    ends = np.searchsorted(given_N[order], np.arange(scores.class_count + 1))
    parts: list[tuple[Ints, Ints, Bools, Doubles]] = []
    for pair, (first, second) in enumerate(pairs_P2.tolist()):
        for label, other in ((first, second), (second, first)):
            photos = order[ends[label] : ends[label + 1]]
            nearest = scores.nearest_NK[photos, 0]
            photos = photos[(nearest == label) | (nearest == other)]
            is_other = scores.nearest_NK[photos] == other
            # a class that is not among the nearest scores no more than the last of them
            other_score = np.where(is_other, scores.nearest_score_NK[photos], -np.inf).max(
                axis=1, initial=-np.inf
            )
            last = np.where(
                np.isfinite(scores.nearest_score_NK[photos]), scores.nearest_score_NK[photos], np.inf
            )
            other_score = np.where(np.isfinite(other_score), other_score, last.min(axis=1, initial=np.inf))
            margin = given_score_N[photos] - other_score
            sign = 1 if label == first else -1
            parts.append(
                (np.full(len(photos), pair), photos, np.full(len(photos), label == first), sign * margin)
            )
    pair_M, photo_M, first_M, margin_M = (np.concatenate(column) for column in zip(*parts, strict=True))
    return pair_M, photo_M, first_M, margin_M


def _fit(pair_M: Ints, first_M: Bools, margin_M: Doubles, pairs: int, floor: float) -> tuple[Doubles, Bools]:
    """(M,) probability of the pair's first class, and (P,) whether wrong labels explain the pair best.

    Two normal distributions of one variance for each pair; each label has its own share of either class, at
    least half of it its own. EM from two starts: from the labels as they are, and from the margins alone.
    """
    label_M = 2 * pair_M + first_M
    count_L = np.maximum(np.bincount(label_M, minlength=2 * pairs), 1)
    mean_L = np.bincount(label_M, margin_M, 2 * pairs) / count_L
    count_P: Doubles = np.maximum(np.bincount(pair_M, minlength=pairs), 1).astype(np.float64)
    mean_P = np.bincount(pair_M, margin_M, pairs) / count_P
    spread_P = np.sqrt(np.bincount(pair_M, np.square(margin_M - mean_P[pair_M]), pairs) / count_P)
    as_labelled = _em(pair_M, first_M, margin_M, mean_L[1::2], mean_L[::2], spread_P / 2, 0.95, floor)
    by_margin = _em(pair_M, first_M, margin_M, mean_P + spread_P, mean_P - spread_P, spread_P / 2, 0.7, floor)
    enough_P = np.minimum(count_L[::2], count_L[1::2]) >= _MIN_LABELLED
    unmixed_P = np.bincount(pair_M, _unmixed(label_M, margin_M, mean_L, count_L), pairs)
    wrong_M = np.where(first_M, 1 - by_margin.right_M, by_margin.right_M)[enough_P[pair_M]]
    rate = float(wrong_M.mean()) if len(wrong_M) else 0.0
    needed_P = np.clip(1 - rate / _COMMON, -1, 1) * np.log(count_P)
    other_P = by_margin.likelihood_P > as_labelled.likelihood_P + needed_P
    right_M = np.where(other_P[pair_M], by_margin.right_M, as_labelled.right_M)
    gain_P = np.where(other_P, by_margin.likelihood_P, as_labelled.likelihood_P) - unmixed_P
    apart_P = np.where(other_P, by_margin.separation_P, as_labelled.separation_P) >= MIN_SEPARATION
    return right_M, enough_P & apart_P & (gain_P > needed_P)


@dataclass(frozen=True)
class _Mixture:
    right_M: Doubles  # probability of the pair's first class
    likelihood_P: Doubles
    separation_P: Doubles  # standard deviations between the means


def _em(
    pair_M: Ints,
    first_M: Bools,
    margin_M: Doubles,
    high_P: Doubles,
    low_P: Doubles,
    sigma_P: Doubles,
    right: float,
    floor: float,
) -> _Mixture:
    pairs = len(high_P)

    def summed(values_M: Doubles) -> Doubles:
        total_P: Doubles = np.bincount(pair_M, values_M, pairs).astype(np.float64)
        return total_P

    first_P = np.maximum(summed(first_M.astype(float)), 1)
    second_P = np.maximum(summed((~first_M).astype(float)), 1)
    sigma_P = np.maximum(sigma_P, 1e-4)
    of_first_P, of_second_P = (
        np.full(pairs, right),
        np.full(pairs, 1 - right),
    )  # share of class `first` in either
    for _ in range(2 * _EM_STEPS):
        share_M = np.where(first_M, of_first_P[pair_M], of_second_P[pair_M])
        high_M = share_M * _normal(margin_M, high_P[pair_M], sigma_P[pair_M]) + 1e-300
        low_M = (1 - share_M) * _normal(margin_M, low_P[pair_M], sigma_P[pair_M]) + 1e-300
        right_M = high_M / (high_M + low_M)
        weight_P, rest_P = summed(right_M), summed(1 - right_M)
        high_P = summed(right_M * margin_M) / np.maximum(weight_P, 1e-9)
        low_P = summed((1 - right_M) * margin_M) / np.maximum(rest_P, 1e-9)
        off_M = right_M * np.square(margin_M - high_P[pair_M]) + (1 - right_M) * np.square(
            margin_M - low_P[pair_M]
        )
        sigma_P = np.maximum(np.sqrt(summed(off_M) / np.maximum(weight_P + rest_P, 1e-9)), 1e-4)
        of_first_P = np.clip(summed(right_M * first_M) / first_P, 1 - _MOST_WRONG, 1 - floor)
        of_second_P = np.clip(summed(right_M * ~first_M) / second_P, floor, _MOST_WRONG)
    return _Mixture(right_M, summed(np.log(high_M + low_M)), (high_P - low_P) / sigma_P)


def _unmixed(label_M: Ints, margin_M: Doubles, mean_L: Doubles, count_L: Ints) -> Doubles:
    """(M,) log-likelihood where every label is right: one normal distribution for each label of a pair."""
    off_M = margin_M - mean_L[label_M]
    sigma_L = np.maximum(np.sqrt(np.bincount(label_M, np.square(off_M), len(mean_L)) / count_L), 1e-4)
    found_M: Doubles = np.log(_normal(off_M, 0.0, sigma_L[label_M]) + 1e-300)
    return found_M


def _normal(value_M: Doubles, mean: Doubles | float, sigma_M: Doubles) -> Doubles:
    density_M: Doubles = np.exp(-0.5 * np.square((value_M - mean) / sigma_M)) / sigma_M
    return density_M
