"""Does a photo look like the class that its clicks say? Out of fold, by whitened sub-centres. (ours)

The parts are known: labels are judged by a model that never saw them (confident learning: Northcutt, Jiang,
Chuang, 2021); a class has several centres where it has several looks (sub-centre ArcFace: Deng et al.,
2020); features are power-normalised (Perronnin et al., 2010) and whitened by all photos. Only sums per
class and one F×F matrix are learned. What clicks say (prior) and what looks say (likelihood) are
then weighed by Bayes' rule; how far looks can be trusted, and how many labels are wrong, is read off the
log itself.

Shapes: N photos, F features, C classes, R clicks, G groups (sub-centres: C × K, group g is of class g // K),
B a fold's photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from immr.governance.governance_recipe import GovernanceRecipe
from immr.types import FloatArray

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

KEPT = ""
MOVED_TO_CLICKED = "moved to another clicked item that it looks like"
MOVED = "moved to the class that it surely looks like"
LOOKS_LIKE_ANOTHER = "looks like another class than its clicks say"
UNDECIDED = "clicks do not agree, and its looks do not decide"

_BLOCK_ROWS = 8192  # that are float64 at a time
_SPLITS = 8  # rounds of looking for sub-centres
_MIN_SUPPORT = 1.5  # weight that a class needs outside the fold, to be judged by or moved to
_SHARPNESS = tuple(float(2 ** (half / 2)) for half in range(-4, 15))  # 0.25 … 128
_EM_STEPS = 25
_MOST_WRONG = 0.5  # of labels: beyond it, looks and clicks would change places


@dataclass(frozen=True)
class Labels:
    """What the clicks say.

    Row n has the class `given_N[n]`; `settled_N` says whether its clicks agree. `clicks` are (row, class)
    pairs, the given ones among them, with their evidence.
    """

    given_N: Ints
    weight_N: FloatArray
    settled_N: Bools
    clicks: Ints  # (R, 2)
    evidence_R: FloatArray
    class_count: int


@dataclass(frozen=True)
class Verdicts:
    """What clicks and pictures say together, and why it is not what the clicks say alone."""

    class_N: Ints  # to learn; −1: none
    reason: list[str]
    given_N: FloatArray  # probability of the given class
    best_N: FloatArray  # probability of the likeliest one
    likeliest_N: Ints
    wrong_share: float  # of labels, estimated
    sharpness: float  # of looks: the likelihood is softmax(sharpness × cosine); near 0 they say nothing


def clean(
    features_NF: FloatArray, hashes: Sequence[str], labels: Labels, recipe: GovernanceRecipe
) -> Verdicts:
    """Judge each label by photos that are not in its fold, in rounds that trust the doubtful less.

    Args:
        features_NF: any image embedding; a row of NaN is not judged.
        hashes: content hash of each photo (hex): the same photo is always in the same fold.
        labels: what the clicks say.
        recipe: folds, sub-centres, and how sure one has to be.
    """
    seen_N = np.asarray(np.isfinite(features_NF).all(axis=1))
    x_NF = power_normalised(np.where(seen_N[:, None], features_NF, 0))
    folds_N = _folds(hashes, recipe.clean_folds)
    fit_N = np.where(seen_N & labels.settled_N, labels.weight_N, 0).astype(np.float32)
    trust_N = fit_N
    for _ in range(recipe.clean_rounds):
        groups_N = sub_centres(x_NF, labels.given_N, trust_N, recipe.clean_sub_centres)
        scores_NC = out_of_fold_scores(x_NF, groups_N, trust_N, folds_N, labels.class_count, recipe)
        judged_N = seen_N & np.isfinite(_of(scores_NC, labels.given_N))
        sharpness, wrong_share = calibrated(scores_NC, labels.given_N, judged_N & labels.settled_N)
        belief_NC = _prior(labels, wrong_share) * _softmax(scores_NC, sharpness)
        belief_NC /= np.maximum(belief_NC.sum(axis=1, keepdims=True), 1e-30)
        trust_N = fit_N * np.where(judged_N, _of(belief_NC, labels.given_N), 1)
    return _judge(belief_NC, seen_N, judged_N, labels, recipe, (wrong_share, sharpness))


def calibrated(scores_NC: FloatArray, given_N: Ints, rows_N: Bools) -> tuple[float, float]:
    """How sharp looks are and what share of labels is wrong, by maximum likelihood over its own labels.

    A label is right with probability 1 − ε, else any other class's: L = Σ log((1−ε) p + ε (1−p)/(C−1)),
    with p the softmax of sharpness × score at the given class; ε by EM, sharpness on a grid.

    Returns:
        (sharpness, ε); (0, 0) where there is nothing to learn from.
    """
    scores, given = scores_NC[rows_N], given_N[rows_N]
    others = scores.shape[1] - 1
    if not len(given) or not others:
        return 0.0, 0.0
    best = (-np.inf, 0.0, 0.0)
    for sharpness in (0.0, *_SHARPNESS):
        p_N = _of(_softmax(scores, sharpness), given).astype(np.float64)
        wrong = 0.2
        for _ in range(_EM_STEPS):
            chance_N = wrong * (1 - p_N) / others
            wrong = float(np.mean(chance_N / ((1 - wrong) * p_N + chance_N + 1e-30)))
            wrong = min(wrong, _MOST_WRONG)
        likelihood = np.log((1 - wrong) * p_N + wrong * (1 - p_N) / others + 1e-30).sum()
        best = max(best, (round(float(likelihood), 6), sharpness, round(wrong, 3)))
    return best[1], best[2]


def power_normalised(features_NF: FloatArray) -> FloatArray:
    """(N, F) signed square roots with unit rows; a row of zeros stays one."""
    rooted_NF = np.sign(features_NF) * np.sqrt(np.abs(features_NF))
    norm_N1 = np.linalg.norm(rooted_NF, axis=1, keepdims=True)
    unit_NF: FloatArray = (rooted_NF / np.maximum(norm_N1, 1e-12)).astype(np.float32)
    return unit_NF


def sub_centres(x_NF: FloatArray, class_N: Ints, trust_N: FloatArray, k: int) -> Ints:
    """(N,) group of each photo: its class's K sub-centres, found by k-means from a start without chance.

    The first centre is the class's mean; each further one begins at the photo that is farthest from those
    there are.
    """
    group_N = class_N * k
    if k == 1:
        return group_N
    order_N = np.argsort(class_N, kind="stable")
    starts = np.flatnonzero(np.diff(class_N[order_N], prepend=-1))
    for rows in np.split(order_N, starts[1:]):
        group_N[rows] += _k_means(x_NF[rows], trust_N[rows], k)
    return group_N


def _k_means(x_MF: FloatArray, trust_M: FloatArray, k: int) -> Ints:
    trusted, x_MF = trust_M > 0, x_MF.astype(np.float64)
    if np.count_nonzero(trusted) < 2 * k:
        return np.zeros(len(x_MF), np.int64)
    centres = [np.average(x_MF, axis=0, weights=trust_M)]
    while len(centres) < k:
        nearest_M = np.max(x_MF @ np.stack(centres).T, axis=1)
        centres.append(x_MF[np.argmin(np.where(trusted, nearest_M, np.inf))])
    for _ in range(_SPLITS):
        nearest_M = np.argmax(x_MF @ np.stack(centres).T, axis=1)
        for number in range(k):
            weight_M = trust_M * (nearest_M == number)
            if weight_M.sum() > 0:
                mean_F = np.average(x_MF, axis=0, weights=weight_M)
                centres[number] = mean_F / max(float(np.linalg.norm(mean_F)), 1e-12)
    nearest: Ints = nearest_M.astype(np.int64)
    return nearest


def out_of_fold_scores(
    x_NF: FloatArray,
    group_N: Ints,
    trust_N: FloatArray,
    fold_N: Ints,
    class_count: int,
    recipe: GovernanceRecipe,
) -> FloatArray:
    """(N, C) cosine of each photo to each class's nearest sub-centre, both whitened by the other folds.

    −inf where a class has too little outside the fold. Rounded, so that no number of threads shows.
    """
    groups = class_count * recipe.clean_sub_centres
    folds = [
        _Sums.of(x_NF, group_N, trust_N * (fold_N == fold), groups) for fold in range(recipe.clean_folds)
    ]
    whole = _Sums(*(sum(parts) for parts in zip(*(fold.parts for fold in folds), strict=True)))
    scores_NC = np.empty((len(x_NF), class_count), np.float32)
    for fold, own in enumerate(folds):
        rest = _Sums(*(a - b for a, b in zip(whole.parts, own.parts, strict=True)))
        scores_BC = rest.scores(x_NF[fold_N == fold], class_count, recipe)
        scores_NC[fold_N == fold] = scores_BC
    return scores_NC


@dataclass(frozen=True)
class _Sums:
    """All that is learned: Σ w, Σ w x per group, and Σ w x xᵀ.

    In float64: how many threads share a product shows in its last bits, and those are then far below the
    fourth digit that scores are rounded to.
    """

    weight_G: Any
    x_GF: Any
    xx_FF: Any

    @property
    def parts(self) -> tuple[Any, Any, Any]:
        return self.weight_G, self.x_GF, self.xx_FF

    @classmethod
    def of(cls, x_NF: FloatArray, group_N: Ints, weight_N: FloatArray, groups: int) -> _Sums:
        rows = np.flatnonzero(weight_N > 0)
        features = x_NF.shape[1]
        sums_GF, sums_FF = np.zeros((groups, features)), np.zeros((features, features))
        for block in np.split(rows, range(_BLOCK_ROWS, len(rows), _BLOCK_ROWS)):
            x = x_NF[block].astype(np.float64)
            weighted = x * weight_N[block, None]
            np.add.at(sums_GF, group_N[block], weighted)
            sums_FF += weighted.T @ x
        return cls(np.bincount(group_N[rows], weight_N[rows], groups), sums_GF, sums_FF)

    def scores(self, x_BF: FloatArray, class_count: int, recipe: GovernanceRecipe) -> FloatArray:
        """(B, C) best cosine over a class's sub-centres that hold enough of it."""
        whole = max(float(self.weight_G.sum()), 1e-12)
        mean_F = self.x_GF.sum(axis=0) / whole
        weight_G1 = np.maximum(self.weight_G, 1e-12)[:, None]
        centres_GF = self.x_GF / weight_G1 - mean_F
        spread_FF = self.xx_FF / whole - np.outer(mean_F, mean_F)
        ridge = recipe.clean_ridge * max(float(np.trace(spread_FF)) / len(spread_FF), 1e-12)
        root_FF = np.linalg.cholesky(spread_FF + ridge * np.eye(len(spread_FF)))
        both = np.linalg.solve(root_FF, np.concatenate([centres_GF, x_BF - mean_F]).T).T
        both /= np.maximum(np.linalg.norm(both, axis=1, keepdims=True), 1e-12)
        cosine_BG = both[len(centres_GF) :] @ both[: len(centres_GF)].T
        weight_CK = self.weight_G.reshape(class_count, -1)
        weight_C1 = weight_CK.sum(axis=1, keepdims=True)
        usable_CK = (weight_CK >= recipe.clean_min_sub_centre_share * weight_C1) & (weight_C1 >= _MIN_SUPPORT)
        cosine_BCK = np.where(usable_CK, cosine_BG.reshape(len(x_BF), *usable_CK.shape), -np.inf)
        scores_BC: FloatArray = cosine_BCK.max(axis=2).round(4).astype(np.float32)
        return scores_BC


def _prior(labels: Labels, wrong_share: float) -> FloatArray:
    """(N, C) what clicks say: 1 − ε for the clicked classes by their evidence, ε for all others alike."""
    shape = len(labels.given_N), labels.class_count
    clicked_NC = np.zeros(shape, np.float32)
    np.add.at(clicked_NC, tuple(labels.clicks.T), labels.evidence_R)
    clicked_NC /= np.maximum(clicked_NC.sum(axis=1, keepdims=True), 1e-12)
    elsewhere = wrong_share / max(labels.class_count - 1, 1)
    prior_NC: FloatArray = (1 - wrong_share) * clicked_NC + elsewhere * (clicked_NC == 0)
    return prior_NC


def _judge(
    belief_NC: FloatArray,
    seen_N: Bools,
    judged_N: Bools,
    labels: Labels,
    recipe: GovernanceRecipe,
    learned: tuple[float, float],
) -> Verdicts:
    belief_NC = belief_NC.round(4)  # so that summation order hardly ever shows
    given_N = _of(belief_NC, labels.given_N)
    likeliest_N = belief_NC.argmax(axis=1)
    best_N = _of(belief_NC, likeliest_N)
    clicked_N = np.zeros(len(best_N), bool)
    rows_R, classes_R = labels.clicks.T
    clicked_N[rows_R[classes_R == likeliest_N[rows_R]]] = True
    need_N = np.where(labels.settled_N, recipe.clean_keep, recipe.clean_settle)
    keep_N = np.where(judged_N, given_N >= need_N, labels.settled_N)
    move_N = ~keep_N & seen_N & (likeliest_N != labels.given_N)
    to_clicked_N = move_N & clicked_N & (best_N >= recipe.clean_settle)
    moved_N = move_N & ~clicked_N & (best_N >= recipe.clean_move)
    class_N = np.select([keep_N, to_clicked_N | moved_N], [labels.given_N, likeliest_N], -1)
    reason = np.select(
        [keep_N, to_clicked_N, moved_N, labels.settled_N],
        [KEPT, MOVED_TO_CLICKED, MOVED, LOOKS_LIKE_ANOTHER],
        UNDECIDED,
    )
    unknown_N = np.where(judged_N, given_N, np.nan).astype(np.float32)
    return Verdicts(class_N.astype(np.int64), reason.tolist(), unknown_N, best_N, likeliest_N, *learned)


def _softmax(scores_NC: FloatArray, sharpness: float) -> FloatArray:
    """Rows that add up to 1; a class without a score has 0, and a row of nothing else is zeros."""
    there_NC = np.isfinite(scores_NC)
    logits_NC = np.where(there_NC, scores_NC, -1) * sharpness
    powers_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True)) * there_NC
    shares: FloatArray = powers_NC / np.maximum(powers_NC.sum(axis=1, keepdims=True), 1e-30)
    return shares


def _of(scores_NC: FloatArray, class_N: Ints) -> FloatArray:
    picked: FloatArray = scores_NC[np.arange(len(class_N)), class_N]
    return picked


def _folds(hashes: Sequence[str], folds: int) -> Ints:
    return np.array([int(value[:8] or "0", 16) % folds for value in hashes], np.int64)
