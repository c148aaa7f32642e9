"""Logs whose errors are not spread evenly.

clean: every click is right. symmetric-40: labels go to any class alike. swaps-21, -31, -41: look-alike
    pairs swap that share of their labels. one-sided-41: only one class of each pair loses labels to the other.
    cycles-35: two or three look-alikes lose 35 % of their labels, each to the next. uneven-swaps: classes of a
    pair lose up to 45 % of their labels to the other, and one has half of its photos.
    retakes: one photo in seven has a wrong click, and three near copies with the same one. bursts: users take
    up to six photos of a thing in one session, and in one session in five all have the same wrong click.
    two-shops: three photos in ten are of another shop with another camera, whose shoppers click wrongly in
    40 % of cases; the others never do. zipf: class sizes follow Zipf's law and a fifth of the labels is wrong.

Labels are drawn on the embedding itself, not on pictures, so a world takes a minute and not an hour.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from immr.governance.labels.class_scores import Bools, Ints, power_normalised
from immr.governance.splits.scenes import centred
from immr.types import FloatArray

SEED = 0


@dataclass(frozen=True)
class Photos:
    """Embeddings, true classes and labels."""

    features_NF: FloatArray
    truth_N: Ints
    given_N: Ints
    session_N: Ints | None = None
    rival_C: Ints | None = None  # the class with which each class swaps labels; −1: none

    @property
    def right_N(self) -> Bools:
        return np.asarray(self.given_N == self.truth_N)


def cycles(x_NF: FloatArray, truth_N: Ints, category_C: Ints) -> Photos:
    """Two look-alikes, and a third class if the category has one to spare, lose 35 % of their labels to the next."""
    rng, given_N = np.random.default_rng(SEED), truth_N.copy()
    pairs = _look_alikes(x_NF, truth_N, category_C)
    spare = set(range(len(category_C))) - {one for pair in pairs for one in pair}
    for pair in pairs:
        third = [one for one in sorted(spare) if category_C[one] == category_C[pair[0]]][:1]
        spare -= set(third)
        cycle = [*pair, *third]
        for right, wrong in zip(cycle, cycle[1:] + cycle[:1], strict=True):
            given_N[(truth_N == right) & (rng.random(len(truth_N)) < 0.35)] = wrong
    return Photos(x_NF, truth_N, given_N)


def uneven(x_NF: FloatArray, truth_N: Ints, category_C: Ints) -> Photos:
    """Pairs swap labels at rates of their own, up to 45 % either way; one class of each keeps half of its photos."""
    rng = np.random.default_rng(SEED)
    pairs, dropped_N = _look_alikes(x_NF, truth_N, category_C), np.zeros(len(truth_N), bool)
    given_N = truth_N.copy()
    for pair in pairs:
        for right, wrong in (pair, pair[::-1]):
            given_N[(truth_N == right) & (rng.random(len(truth_N)) < rng.uniform(0, 0.45))] = wrong
        dropped_N |= (truth_N == pair[rng.integers(2)]) & (rng.random(len(truth_N)) < 0.5)
    return Photos(x_NF[~dropped_N], truth_N[~dropped_N], given_N[~dropped_N])


def swaps(share: float, one_sided: bool = False) -> Callable[[FloatArray, Ints, Ints], Photos]:
    """Each class and its nearest one in the category swap labels, or one of the two loses them to the other."""

    def world(x_NF: FloatArray, truth_N: Ints, category_C: Ints) -> Photos:
        rng, given_N = np.random.default_rng(SEED), truth_N.copy()
        rival_C = np.full(len(category_C), -1)
        for one, other in _look_alikes(x_NF, truth_N, category_C):
            rival_C[[one, other]] = other, one
            for right, wrong in ((one, other), (other, one))[: 1 if one_sided else 2]:
                given_N[(truth_N == right) & (rng.random(len(truth_N)) < share)] = wrong
        return Photos(x_NF, truth_N, given_N, rival_C=rival_C)

    return world


def symmetric(share: float) -> Callable[[FloatArray, Ints, Ints], Photos]:
    """Wrong labels go to any other class alike."""

    def world(x_NF: FloatArray, truth_N: Ints, category_C: Ints) -> Photos:
        rng = np.random.default_rng(SEED)
        wrong_N = rng.random(len(truth_N)) < share
        other_N = (truth_N + rng.integers(1, len(category_C), len(truth_N))) % len(category_C)
        return Photos(x_NF, truth_N, np.where(wrong_N, other_N, truth_N))

    return world


def retakes(x_NF: FloatArray, truth_N: Ints, category_C: Ints) -> Photos:
    """Wrongly labelled photos come with three near copies of the same label."""
    base = symmetric(0.15)(x_NF, truth_N, category_C)
    rows = np.repeat(np.flatnonzero(~base.right_N), 3)
    noise = np.random.default_rng(SEED + 1).standard_normal((len(rows), x_NF.shape[1]))
    copies_NF = (x_NF[rows] + 0.15 * x_NF.std() * noise).astype(np.float32)
    return Photos(
        np.concatenate([x_NF, copies_NF]),
        np.concatenate([truth_N, truth_N[rows]]),
        np.concatenate([base.given_N, base.given_N[rows]]),
    )


def bursts(x_NF: FloatArray, truth_N: Ints, category_C: Ints) -> Photos:
    """A session is a few consecutive photos of one class, as the files are ordered; its clicks are the same."""
    rng, photos = np.random.default_rng(SEED), len(truth_N)
    order = np.argsort(truth_N, kind="stable")
    new = rng.random(photos) < 0.25
    new |= np.diff(truth_N[order], prepend=-1) != 0
    starts = np.flatnonzero(new)
    for start, end in zip(starts, np.append(starts[1:], photos), strict=True):
        new[start + 6 : end : 6] = True
    session_N = np.empty(photos, np.int64)
    session_N[order] = np.cumsum(new) - 1
    wrong_N = (rng.random(new.sum()) < 0.2)[session_N]
    other_N = (truth_N + rng.integers(1, len(category_C), new.sum())[session_N]) % len(category_C)
    return Photos(x_NF, truth_N, np.where(wrong_N, other_N, truth_N), session_N)


def two_shops(x_NF: FloatArray, truth_N: Ints, category_C: Ints) -> Photos:
    """The other shop's camera scales each feature by its own factor."""
    rng = np.random.default_rng(SEED + 1)  # another stream than that of the wrong labels
    other_N = rng.random(len(truth_N)) < 0.3
    factor_F = np.exp(0.5 * rng.standard_normal(x_NF.shape[1])).astype(np.float32)
    mixed = symmetric(0.4)(x_NF, truth_N, category_C)
    return Photos(
        np.where(other_N[:, None], x_NF * factor_F, x_NF), truth_N, np.where(other_N, mixed.given_N, truth_N)
    )


def zipf(x_NF: FloatArray, truth_N: Ints, category_C: Ints) -> Photos:
    """The class of rank r has 60 / r photos, at least three; a fifth of the labels is wrong."""
    rng, classes = np.random.default_rng(SEED), len(category_C)
    sizes = np.maximum(60 // np.arange(1, classes + 1), 3)
    rows = [
        rng.permutation(np.flatnonzero(truth_N == one))[:size]
        for one, size in zip(rng.permutation(classes), sizes, strict=True)
    ]
    kept = np.sort(np.concatenate(rows))
    return symmetric(0.2)(x_NF[kept], truth_N[kept], category_C)


WORLDS: dict[str, Callable[[FloatArray, Ints, Ints], Photos]] = {
    "clean": symmetric(0.0),
    "symmetric-40": symmetric(0.4),
    "swaps-21": swaps(0.21),
    "swaps-31": swaps(0.31),
    "swaps-41": swaps(0.41),
    "one-sided-41": swaps(0.41, one_sided=True),
    "cycles-35": cycles,
    "uneven-swaps": uneven,
    "retakes": retakes,
    "bursts": bursts,
    "two-shops": two_shops,
    "zipf": zipf,
}


def _look_alikes(x_NF: FloatArray, truth_N: Ints, category_C: Ints) -> list[tuple[int, int]]:
    """Pairs of classes of one category, the most alike first; no class is in two pairs."""
    x_NF = centred(power_normalised(x_NF))
    centres_CF = np.stack([x_NF[truth_N == one].mean(axis=0) for one in range(len(category_C))])
    centres_CF /= np.linalg.norm(centres_CF, axis=1, keepdims=True)
    cosine_CC = np.where(category_C[:, None] == category_C, centres_CF @ centres_CF.T, -np.inf)
    np.fill_diagonal(cosine_CC, -np.inf)
    pairs: list[tuple[int, int]] = []
    while np.isfinite(cosine_CC).any():
        one, other = divmod(int(cosine_CC.argmax()), len(category_C))
        pairs.append((one, other))
        cosine_CC[[one, other]] = cosine_CC[:, [one, other]] = -np.inf
    return pairs
