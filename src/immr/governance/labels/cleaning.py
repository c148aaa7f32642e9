"""Does a photo look like the class that its clicks name? Bayes' rule weighs the two. (ours)

Each label is judged by photos that never saw it (confident learning: Northcutt, Jiang, Chuang, 2021): near
copies and the shots of one session share a fold. The clicks give the prior, the scores of `class_scores`
the likelihood; how far scores can be trusted, how many labels are wrong and which classes are mistaken for
each other is estimated from the log itself (`confusion`). A second round learns the class centres from what
the first one believed, which separates classes whose labels were swapped so often that their centres had
met.

Shapes: N photos, F features, C classes, R clicks, S sharpness steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.labels import class_scores
from immr.governance.labels.class_scores import (
    NEAREST,
    SHARPNESS,
    Bools,
    ClassScores,
    Doubles,
    Ints,
)
from immr.governance.labels.confusion import Resemblance, calibrated, look_alikes
from immr.governance.labels.principal_components import compact
from immr.governance.splits.scenes import scenes
from immr.types import FloatArray

KEPT = ""
MOVED_TO_CLICKED = "moved to another clicked item that it looks like"
MOVED = "moved to the class that it clearly looks like"
LOOKS_LIKE_ANOTHER = "looks like another class than the one clicked"
UNDECIDED = "clicks disagree and appearance does not decide"

_LARGE_SCENE = 8  # photos; larger scenes count only where they are less than a fold's part of their class


@dataclass(frozen=True)
class Labels:
    """What the clicks say.

    Row n has the class `given_N[n]`; `settled_N` says whether its clicks agree. `clicks` are (row, class)
    pairs, the given ones among them, with their evidence. Photos with the same number in `session_N` were
    taken in one session.
    """

    given_N: Ints
    weight_N: FloatArray
    settled_N: Bools
    clicks: Ints  # (R, 2)
    evidence_R: FloatArray
    class_count: int
    session_N: Ints | None = None

    @property
    def is_given_R(self) -> Bools:
        """Which clicks name the class that their row has."""
        rows_R, classes_R = self.clicks.T
        same_R: Bools = classes_R == self.given_N[rows_R]
        return same_R


@dataclass(frozen=True)
class Verdicts:
    """The labels after clicks and appearance are combined, with the reason for each change."""

    class_N: Ints  # to train on; −1: none
    reason: list[str]
    given_N: FloatArray  # probability of the given class
    best_N: FloatArray  # probability of the likeliest one
    likeliest_N: Ints
    wrong_share: float  # of labels whose clicks agree, estimated
    sharpness: float  # the likelihood is softmax(sharpness × score); near 0, appearance tells nothing


@dataclass(frozen=True)
class _Belief:
    """Probabilities of the classes that matter for a photo."""

    given_N: Doubles
    likeliest_N: Ints
    best_N: Doubles
    rival_N: Ints  # the class it resembles most beside the given one; −1: none
    of_rival_N: Doubles
    judged_N: Bools
    wrong_share: float
    uniform_share: float  # of labels, wrong by any class alike
    sharpness: float


def clean(
    features_NF: FloatArray,
    hashes: Sequence[str],
    labels: Labels,
    recipe: GovernanceRecipe,
    nearest: int = NEAREST,
) -> Verdicts:
    """Judge each label by photos that are not in its fold.

    Args:
        features_NF: any image embedding; a row of NaN is not judged.
        hashes: content hash of each photo (hex).
        labels: what the clicks say.
        recipe: folds, rounds and thresholds.
        nearest: classes that each photo is compared with, besides the clicked ones.
    """
    x_NF, seen_N = compact(features_NF, labels.class_count)
    fold_N = _folds(x_NF, hashes, labels, recipe)
    fit_N = np.where(seen_N & labels.settled_N, labels.weight_N, 0).astype(np.float32)
    rows = np.flatnonzero(fit_N > 0)
    memberships = rows, labels.given_N[rows], fit_N[rows]
    first: _Belief | None = None
    for _ in range(recipe.clean_rounds):
        scores = class_scores.out_of_fold(
            x_NF, memberships, fold_N, labels.clicks, labels.class_count, recipe.clean_ridge, nearest
        )
        belief = _belief(scores, seen_N, labels, first)
        first = first or belief
        memberships = _memberships(belief, fit_N, labels.given_N)
    return _judge(belief, seen_N, labels, recipe)


def _folds(x_NF: FloatArray, hashes: Sequence[str], labels: Labels, recipe: GovernanceRecipe) -> Ints:
    """(N,) folds by content hash; near copies of one label, and its photos of one session, share one."""
    numbers = np.array([int(value[:8] or "0", 16) for value in hashes], np.int64)
    together_N = None
    if labels.session_N is not None:
        keys = np.stack([labels.session_N, labels.given_N], axis=1)
        together_N = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    scene_N = scenes(x_NF, labels.given_N, recipe.near_copy_reach, together_N)
    size_N = np.bincount(scene_N)[scene_N]
    of_class_N = np.bincount(labels.given_N, minlength=labels.class_count)[labels.given_N]
    too_large_N = size_N > np.maximum(_LARGE_SCENE, of_class_N / recipe.clean_folds)
    scene_N = np.where(too_large_N, np.arange(len(scene_N)), scene_N)  # the whole class is that dense
    _, same_content_N = np.unique(numbers, return_inverse=True)
    lowest_N = np.full(len(numbers), np.iinfo(np.int64).max)
    np.minimum.at(lowest_N, scene_N, numbers)
    by_scene_N = lowest_N[scene_N]
    first_N = np.full(len(numbers), np.iinfo(np.int64).max)
    np.minimum.at(first_N, same_content_N, by_scene_N)
    folds: Ints = first_N[same_content_N] % recipe.clean_folds
    return folds


def _belief(scores: ClassScores, seen_N: Bools, labels: Labels, first: _Belief | None = None) -> _Belief:
    """Bayes' rule over all classes, then between the label and the class it is most easily mistaken for."""
    rows_R, is_given_R = labels.clicks[:, 0], labels.is_given_R
    given_score_N = np.full(len(seen_N), -np.inf)
    given_score_N[rows_R[is_given_R]] = scores.clicked_R[is_given_R]
    judged_N = seen_N & np.isfinite(given_score_N)
    learn_N = judged_N & labels.settled_N
    sharpness, wrong = calibrated(scores.log_sum_NS[learn_N], given_score_N[learn_N], labels.class_count)
    if first:
        wrong = first.uniform_share  # later centres are learned from beliefs and tend to confirm them
    given_N, likeliest_N, best_N, rival_N, of_rival_N = _posterior(scores, labels, sharpness, wrong)
    pair = look_alikes(scores, labels.given_N, given_score_N, learn_N, wrong / max(labels.class_count - 1, 1))
    given_N, of_rival_N = _split(pair, judged_N, given_N, rival_N, of_rival_N)
    swapped_N = of_rival_N > np.maximum(given_N, np.where(likeliest_N == labels.given_N, -1, best_N))
    likeliest_N = np.where(swapped_N, rival_N, likeliest_N)
    best_N = np.where(swapped_N, of_rival_N, np.where(likeliest_N == labels.given_N, given_N, best_N))
    share = float(np.mean(1 - given_N[learn_N])) if learn_N.any() else 0.0
    share = first.wrong_share if first else round(share, 3)
    return _Belief(given_N, likeliest_N, best_N, rival_N, of_rival_N, judged_N, share, wrong, sharpness)


class _Posterior(NamedTuple):
    """Probabilities of the classes that matter for a photo, as in `_Belief`."""

    given_N: Doubles
    likeliest_N: Ints
    best_N: Doubles
    rival_N: Ints
    of_rival_N: Doubles


def _posterior(scores: ClassScores, labels: Labels, sharpness: float, wrong: float) -> _Posterior:
    """Bayes' rule: the given class, the likeliest one and the rival, with their probabilities."""
    rows_R, classes_R = labels.clicks.T
    photos, is_given_R = len(labels.given_N), labels.is_given_R
    clicked_R, nearest_NK = _probabilities(scores, labels, sharpness, wrong)
    given_N = np.zeros(photos)
    given_N[rows_R[is_given_R]] = clicked_R[is_given_R]

    order = np.lexsort((classes_R, -clicked_R, rows_R))
    likeliest_clicked = order[np.unique(rows_R[order], return_index=True)[1]]
    best_N, likeliest_N = np.full(photos, -1.0), labels.given_N.copy()
    best_N[rows_R[likeliest_clicked]] = clicked_R[likeliest_clicked]
    likeliest_N[rows_R[likeliest_clicked]] = classes_R[likeliest_clicked]
    rows, column_N = np.arange(photos), nearest_NK.argmax(axis=1)
    is_nearer_N = nearest_NK[rows, column_N] > best_N
    likeliest_N = np.where(is_nearer_N, scores.nearest_NK[rows, column_N], likeliest_N)
    best_N = np.maximum(best_N, nearest_NK[rows, column_N])

    if labels.class_count < 2:
        return _Posterior(given_N, likeliest_N, best_N, np.full(photos, -1), np.zeros(photos))
    column_N = (scores.nearest_NK[:, 0] == labels.given_N).astype(np.int64)
    rival_N, of_rival_N = scores.nearest_NK[rows, column_N], nearest_NK[rows, column_N]
    return _Posterior(given_N, likeliest_N, best_N, rival_N, of_rival_N)


def _probabilities(
    scores: ClassScores, labels: Labels, sharpness: float, wrong: float
) -> tuple[Doubles, Doubles]:
    """The probability of each clicked class (R,), and of each photo's nearest classes (N, K).

    The prior is 1 − ε, shared among the clicked classes by their evidence, and ε for all other classes alike.
    """
    rows_R, classes_R = labels.clicks.T
    photos, count = len(labels.given_N), labels.class_count
    likelihood_R = np.where(np.isfinite(scores.clicked_R), np.exp(sharpness * (scores.clicked_R - 1)), 0)
    evidence_N = np.bincount(rows_R, labels.evidence_R, photos)
    prior_R = (1 - wrong) * labels.evidence_R / np.maximum(evidence_N[rows_R], 1e-12)
    prior_elsewhere = wrong / max(count - 1, 1)
    of_all_N = (
        np.exp(scores.log_sum_NS[:, SHARPNESS.index(sharpness)])
        if sharpness
        else np.full(photos, float(count))
    )
    elsewhere_N = np.maximum(of_all_N - np.bincount(rows_R, likelihood_R, photos), 0)
    norm_N = np.bincount(rows_R, prior_R * likelihood_R, photos) + prior_elsewhere * elsewhere_N
    norm_N = np.maximum(norm_N, 1e-300)
    clicked_R = (prior_R * likelihood_R / norm_N[rows_R]).round(4)
    nearest_NK = np.where(
        np.isfinite(scores.nearest_score_NK), np.exp(sharpness * (scores.nearest_score_NK - 1)), 0
    )
    nearest_NK = (prior_elsewhere * nearest_NK / norm_N[:, None]).round(4)
    at_R, column_R = np.nonzero(scores.nearest_NK[rows_R] == classes_R[:, None])
    nearest_NK[rows_R[at_R], column_R] = clicked_R[at_R]
    return clicked_R, nearest_NK


def _split(
    pair: Resemblance, judged_N: Bools, given_N: Doubles, rival_N: Ints, of_rival_N: Doubles
) -> tuple[Doubles, Doubles]:
    """Divide the belief in a label and its rival between the two, in the ratio estimated for their classes."""
    both_N = given_N + of_rival_N
    right_N = np.where(np.isfinite(pair.right_N), pair.right_N, 1)
    fitted_N = judged_N & (pair.rival_N == rival_N) & (both_N * right_N < given_N)
    return (
        np.where(fitted_N, both_N * right_N, given_N).round(4),
        np.where(fitted_N, both_N * (1 - right_N), of_rival_N).round(4),
    )


def _memberships(belief: _Belief, fit_N: FloatArray, given_N: Ints) -> tuple[Ints, Ints, FloatArray]:
    """(rows, classes, weights) of the next round: each photo counts for its label and for the rival."""
    own_N = fit_N * np.where(belief.judged_N, belief.given_N, 1)
    rival_N = fit_N * np.where(belief.judged_N & (belief.rival_N >= 0), belief.of_rival_N, 0)
    own, rival = np.flatnonzero(own_N > 0), np.flatnonzero(rival_N > 0)
    return (
        np.concatenate([own, rival]),
        np.concatenate([given_N[own], belief.rival_N[rival]]),
        np.concatenate([own_N[own], rival_N[rival]]).astype(np.float32),
    )


def _judge(belief: _Belief, seen_N: Bools, labels: Labels, recipe: GovernanceRecipe) -> Verdicts:
    clicked_N = np.zeros(len(seen_N), bool)
    rows_R, classes_R = labels.clicks.T
    clicked_N[rows_R[classes_R == belief.likeliest_N[rows_R]]] = True
    need_N = np.where(labels.settled_N, recipe.clean_keep, recipe.clean_settle)
    keep_N = np.where(belief.judged_N, belief.given_N >= need_N, labels.settled_N)
    move_N = ~keep_N & seen_N & (belief.likeliest_N != labels.given_N)
    to_clicked_N = move_N & clicked_N & (belief.best_N >= recipe.clean_settle)
    moved_N = move_N & ~clicked_N & (belief.best_N >= recipe.clean_move)
    class_N = np.select([keep_N, to_clicked_N | moved_N], [labels.given_N, belief.likeliest_N], -1)
    reason = np.select(
        [keep_N, to_clicked_N, moved_N, labels.settled_N],
        [KEPT, MOVED_TO_CLICKED, MOVED, LOOKS_LIKE_ANOTHER],
        UNDECIDED,
    )
    return Verdicts(
        class_N.astype(np.int64),
        reason.tolist(),
        np.where(belief.judged_N, belief.given_N, np.nan).astype(np.float32),
        belief.best_N.astype(np.float32),
        belief.likeliest_N,
        belief.wrong_share,
        belief.sharpness,
    )
