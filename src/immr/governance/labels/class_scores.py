"""How alike a photo and a class are: the cosine to a whitened class centre made from other folds. (ours)

Built from known parts: power-normalised features (Perronnin et al., 2010), whitening by the covariance of all
photos, and scores from folds that a photo is not in. Only sums per class and one F×F matrix are learned.

A photo is compared with every class that has enough photos, block by block, but only what cleaning needs is kept:
the clicked classes' scores, the nearest classes, and the sum over all classes that normalises a softmax. Memory
grows with N × K, not N × C.

Shapes: N photos, F features, C classes, V of them frequent, U of those usable, R clicks, K nearest classes,
S sharpness steps, B photos of a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from immr.types import FloatArray

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]

SHARPNESS = tuple(float(2 ** (half / 2)) for half in range(-4, 15))  # 0.25 … 128
NEAREST = 8  # classes kept for each photo
_BLOCK_ROWS = 2048
_BLOCK_CELLS = 8_000_000  # photos × classes scored at a time
_CACHED_CELLS = 64_000  # of them normalised at a time: half a megabyte, which stays in a core's cache
_GROUP = 64  # classes whose best score is looked at before theirs
MIN_SUPPORT = 1.5  # weight outside the fold that a class needs before it is compared with anything


@dataclass(frozen=True)
class ClassScores:
    """Cosines; −inf for a class with too little support."""

    clicked_R: Doubles
    nearest_NK: Ints  # best first; −1 where fewer classes have enough support
    nearest_score_NK: Doubles
    log_sum_NS: Doubles  # log Σ over classes of exp(sharpness × (score − 1))
    class_count: int


def power_normalised(features_NF: FloatArray) -> FloatArray:
    """(N, F) signed square roots with unit rows; a row of zeros stays zero."""
    unit_NF = np.empty(features_NF.shape, np.float32)
    for start in range(0, len(features_NF), _BLOCK_ROWS):
        block_BF = features_NF[start : start + _BLOCK_ROWS]
        rooted_BF = np.sign(block_BF) * np.sqrt(np.abs(block_BF))
        norm_B1 = np.linalg.norm(rooted_BF, axis=1, keepdims=True)
        unit_NF[start : start + _BLOCK_ROWS] = rooted_BF / np.maximum(norm_B1, 1e-12)
    return unit_NF


def out_of_fold(
    x_NF: FloatArray,
    memberships: tuple[Ints, Ints, FloatArray],
    fold_N: Ints,
    clicks_R2: Ints,
    class_count: int,
    ridge: float,
    nearest: int = NEAREST,
) -> ClassScores:
    """Score each photo by the photos of the other folds.

    Args:
        x_NF: power-normalised features.
        memberships: (rows, classes, weights): which photo counts how much for which class.
        fold_N: each photo's fold.
        clicks_R2: (row, class) pairs whose scores are kept.
        class_count: C.
        ridge: added to the diagonal of the covariance, as a multiple of its mean.
        nearest: classes kept for each photo.
    """
    rows, classes, weights = memberships
    folds = int(fold_N.max(initial=0)) + 1
    frequent_V = np.flatnonzero(np.bincount(classes, weights, class_count) >= MIN_SUPPORT)
    number_C = np.full(class_count, -1, np.int64)
    number_C[frequent_V] = np.arange(len(frequent_V))
    whole = _Sums.of(x_NF, rows, number_C[classes], weights, len(frequent_V))
    keep = min(nearest, class_count)
    found = ClassScores(
        np.full(len(clicks_R2), -np.inf),
        np.full((len(x_NF), keep), -1, np.int64),
        np.full((len(x_NF), keep), -np.inf),
        np.full((len(x_NF), len(SHARPNESS)), -np.inf),
        class_count,
    )
    by_row = np.argsort(clicks_R2[:, 0], kind="stable")
    for fold in range(folds):  # one at a time: a fold's sums take 8 bytes × V × F
        inside = fold_N[rows] == fold
        own = _Sums.of(x_NF, rows[inside], number_C[classes[inside]], weights[inside], len(frequent_V))
        others = whole.without(own)
        usable_M = np.flatnonzero(others.weight_V >= MIN_SUPPORT)
        if not len(usable_M):
            continue
        usable_U = frequent_V[usable_M]
        column_C = np.full(class_count, -1, np.int64)
        column_C[usable_U] = np.arange(len(usable_U))
        compare = others.comparison(ridge, usable_M)
        members = np.flatnonzero(fold_N == fold)
        size = max(1, min(_BLOCK_ROWS, _BLOCK_CELLS // len(usable_U)))
        for start in range(0, len(members), size):
            block = members[start : start + size]
            scores_BU = compare(x_NF[block])
            _fill_sums(found, scores_BU, block)
            _fill_nearest(found, scores_BU, block, usable_U)
            _fill_clicked(found, scores_BU, block, clicks_R2, by_row, column_C)
    return found


def _fill_sums(found: ClassScores, scores_BU: Doubles, rows_B: Ints) -> None:
    size = max(1, _CACHED_CELLS // scores_BU.shape[1])
    for start in range(0, len(rows_B), size):
        rows, less_one_BU = rows_B[start : start + size], scores_BU[start : start + size] - 1
        for odd in (0, 1):  # each second sharpness is twice the one before, so its powers are squares
            powers_BU = np.exp(SHARPNESS[odd] * less_one_BU)
            for step in range(odd, len(SHARPNESS), 2):
                found.log_sum_NS[rows, step] = np.log(np.maximum(powers_BU.sum(axis=1), 1e-300))
                powers_BU *= powers_BU


def _fill_nearest(found: ClassScores, scores_BU: Doubles, rows_B: Ints, usable_U: Ints) -> None:
    columns_BM = _candidates(scores_BU, keep := min(found.nearest_NK.shape[1], len(usable_U)))
    scores_BM = np.take_along_axis(scores_BU, columns_BM, 1)
    best_BK = np.argpartition(-scores_BM, keep - 1, axis=1)[:, :keep]
    # of equal scores the lower class comes first
    columns_BK = np.sort(np.take_along_axis(columns_BM, best_BK, 1), axis=1)
    order = np.argsort(-np.take_along_axis(scores_BU, columns_BK, 1), axis=1, kind="stable")
    columns_BK = np.take_along_axis(columns_BK, order, 1)
    found.nearest_NK[rows_B, :keep] = usable_U[columns_BK]
    found.nearest_score_NK[rows_B, :keep] = np.take_along_axis(scores_BU, columns_BK, 1)


def _candidates(scores_BU: Doubles, keep: int) -> Ints:
    """(B, M) columns with the best `keep` of each row among them: those of the groups with the best scores."""
    groups = scores_BU.shape[1] // _GROUP
    if groups <= 2 * keep:
        return np.broadcast_to(np.arange(scores_BU.shape[1]), scores_BU.shape)
    best_BG = scores_BU[:, : groups * _GROUP].reshape(-1, _GROUP, groups).max(axis=1)
    groups_BK = np.argpartition(-best_BG, keep - 1, axis=1)[:, :keep]
    inside_BM = (groups_BK[:, :, None] + groups * np.arange(_GROUP)).reshape(len(scores_BU), -1)
    rest = np.arange(groups * _GROUP, scores_BU.shape[1])
    return np.concatenate([inside_BM, np.broadcast_to(rest, (len(scores_BU), len(rest)))], axis=1)


def _fill_clicked(
    found: ClassScores, scores_BU: Doubles, rows_B: Ints, clicks_R2: Ints, by_row: Ints, column_C: Ints
) -> None:
    sorted_rows = clicks_R2[by_row, 0]
    first, last = np.searchsorted(sorted_rows, rows_B, "left"), np.searchsorted(sorted_rows, rows_B, "right")
    block = np.repeat(np.arange(len(rows_B)), last - first)
    clicks = (
        by_row[np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)])]
        if len(block)
        else by_row[:0]
    )
    columns = column_C[clicks_R2[clicks, 1]]
    known = columns >= 0
    found.clicked_R[clicks[known]] = scores_BU[block[known], columns[known]]


@dataclass(frozen=True)
class _Sums:
    """Σ w and Σ w x for each class that may be compared, and Σ w, Σ w x and Σ w x xᵀ over all.

    Most classes of a large shop have too few photos to be compared; they count in the sums over all.

    In float64: the number of threads that share a product shows in its last bits, far below the fourth
    digit that scores are rounded to.
    """

    weight_V: Any
    x_VF: Any
    weight: float
    x_F: Any
    xx_FF: Any

    def without(self, own: _Sums) -> _Sums:
        return _Sums(
            self.weight_V - own.weight_V,
            self.x_VF - own.x_VF,
            self.weight - own.weight,
            self.x_F - own.x_F,
            self.xx_FF - own.xx_FF,
        )

    @classmethod
    def of(cls, x_NF: FloatArray, rows: Ints, numbers: Ints, weights: FloatArray, count: int) -> _Sums:
        """`numbers` are below `count`; −1 for a class that is not compared."""
        features = x_NF.shape[1]
        sums_VF, sums_FF = np.zeros((count, features)), np.zeros((features, features))
        sums_F = np.zeros(features)
        for start in range(0, len(rows), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            x = x_NF[rows[block]].astype(np.float64)
            weighted = x * weights[block, None]
            compared = numbers[block] >= 0
            np.add.at(sums_VF, numbers[block][compared], weighted[compared])
            sums_F += weighted.sum(axis=0)
            sums_FF += weighted.T @ x
        compared = numbers >= 0
        weight_V = np.bincount(numbers[compared], weights[compared], count)
        return cls(weight_V, sums_VF, float(weights.sum(dtype=np.float64)), sums_F, sums_FF)

    def comparison(self, ridge: float, usable_U: Ints) -> Any:
        """A function from (B, F) features to (B, U) scores."""
        from scipy.linalg import solve_triangular

        whole = max(self.weight, 1e-12)
        mean_F = self.x_F / whole
        centres_UF = self.x_VF[usable_U] / self.weight_V[usable_U, None] - mean_F
        spread_FF = self.xx_FF / whole - np.outer(mean_F, mean_F)
        features = len(spread_FF)
        raised = ridge * max(float(np.trace(spread_FF)) / features, 1e-12)
        root_FF = np.linalg.cholesky(spread_FF + raised * np.eye(features))
        whiten_FF = solve_triangular(root_FF, np.eye(features), lower=True).T
        white_UF = centres_UF @ whiten_FF
        white_UF /= np.maximum(np.linalg.norm(white_UF, axis=1, keepdims=True), 1e-12)

        def compare(x_BF: FloatArray) -> Doubles:
            white_BF = (x_BF - mean_F) @ whiten_FF
            white_BF /= np.maximum(np.linalg.norm(white_BF, axis=1, keepdims=True), 1e-12)
            scores_BU: Doubles = white_BF @ white_UF.T
            return scores_BU.round(4, out=scores_BU)

        return compare
