"""Scenes: photos of one thing taken in one go, which are near copies or shots of one session. (ours)

Two shots of one shelf share their light, their background and their wrong click. They must be in one fold
when labels are judged, and on one side when photos are held out; otherwise they confirm each other.

How alike two photos have to be is measured against the data: as a fraction of the distance (1 − cosine)
that two photos of one class typically have. So it carries over from one encoder to another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from immr.governance.labels.class_scores import Doubles, Ints
from immr.types import FloatArray

_BLOCK_CELLS = 8_000_000  # photos × photos of a class compared at a time
_JOINED_PAIRS = 1_000_000  # at least, because each joining passes over all photos
_PAIRS_SAMPLED = 50_000


def scenes(x_NF: FloatArray, class_N: Ints, reach: float, together_N: Ints | None = None) -> Ints:
    """(N,) scene of each photo, named by its first row: photos of a class connected by near copies.

    Args:
        x_NF: features with unit rows, for instance power-normalised.
        class_N: each photo's class; only photos of one class share a scene.
        reach: photos closer than this fraction of the typical distance within a class are near copies.
        together_N: photos with equal numbers share a scene whatever they look like; negative numbers are
            ignored.
    """
    centred_NF = centred(x_NF)
    shuffled_N = np.modf(np.abs(x_NF[:, 0].astype(np.float64)) * 1e4)[0]  # by content: the same in any order
    limit = 1 - reach * typical_distance(centred_NF, class_N, shuffled_N)
    scene_N = np.arange(len(class_N))
    for one_M, other_M in _collected(_near(centred_NF, class_N, limit)):
        scene_N = _joined(scene_N, one_M, other_M)
    if together_N is not None and len(together_N):
        order = np.argsort(together_N, kind="stable")
        order = order[together_N[order] >= 0]
        same = together_N[order[1:]] == together_N[order[:-1]]
        scene_N = _joined(scene_N, order[:-1][same], order[1:][same])
    return scene_N


def centred(x_NF: FloatArray) -> FloatArray:
    """Unit rows around the mean of all rows; a row at the mean stays zero."""
    moved_NF = x_NF - x_NF.mean(axis=0, dtype=np.float64).astype(np.float32)
    unit_NF: FloatArray = moved_NF / np.maximum(np.linalg.norm(moved_NF, axis=1, keepdims=True), 1e-12)
    return unit_NF


def typical_distance(x_NF: FloatArray, class_N: Ints, order_N: Doubles) -> float:
    """Median of 1 − cosine over pairs of photos of one class, neighbours by `order_N`; 1 without any pair."""
    order = np.lexsort((order_N, class_N))
    distances: list[Doubles] = []
    pairs = 0
    for step in (1, 2, 3, 5, 8, 13, 21):
        one, other = order[:-step], order[step:]
        same = class_N[one] == class_N[other]
        one, other = one[same], other[same]
        if pairs + len(one) > _PAIRS_SAMPLED:
            stride = -(-(pairs + len(one)) // _PAIRS_SAMPLED)
            one, other = one[::stride], other[::stride]
        distances.append(1 - np.einsum("nf,nf->n", x_NF[one], x_NF[other], dtype=np.float64))
        pairs += len(one)
    found = np.concatenate(distances)
    return round(float(np.median(found)), 3) if len(found) else 1.0


def _near(x_NF: FloatArray, class_N: Ints, limit: float) -> Iterator[tuple[Ints, Ints]]:
    """Pairs of rows of one class with a cosine above `limit`, block by block; each pair once."""
    order = np.argsort(class_N, kind="stable")
    starts = np.flatnonzero(np.diff(class_N[order], prepend=-1))
    for rows in np.split(order, starts[1:]):
        size = max(1, _BLOCK_CELLS // len(rows))
        for start in range(0, len(rows) - 1, size):
            rest = rows[start:]
            one, other = np.nonzero((x_NF[rest[:size]] @ x_NF[rest].T).round(4) >= limit)
            once = one < other
            yield rest[one[once]], rest[other[once]]


def _collected(pairs: Iterable[tuple[Ints, Ints]]) -> Iterator[tuple[Ints, Ints]]:
    """The same pairs in few parts: most classes have few pairs, and there may be as many classes as photos."""
    waiting: list[tuple[Ints, Ints]] = []
    count = 0
    for one_M, other_M in pairs:
        if len(one_M):
            waiting.append((one_M, other_M))
            count += len(one_M)
        if count >= _JOINED_PAIRS:
            yield _concatenated(waiting)
            waiting, count = [], 0
    if waiting:
        yield _concatenated(waiting)


def _concatenated(parts: Sequence[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    return np.concatenate([one_M for one_M, _ in parts]), np.concatenate([other_M for _, other_M in parts])


def _joined(label_N: Ints, one_M: Ints, other_M: Ints) -> Ints:
    """Labels after joining each pair: every row takes the smallest label that it can reach."""
    while True:
        lowest_M = np.minimum(label_N[one_M], label_N[other_M])
        lower_N = label_N.copy()
        for ends_M in (one_M, other_M):
            np.minimum.at(lower_N, label_N[ends_M], lowest_M)
            np.minimum.at(lower_N, ends_M, lowest_M)
        lower_N = lower_N[lower_N]
        if np.array_equal(lower_N, label_N):
            return label_N
        label_N = lower_N
