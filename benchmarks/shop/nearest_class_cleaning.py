"""Cleaning labels by appearance: the nearest classes alone against all classes, on embeddings with wrong labels."""

from __future__ import annotations

import numpy as np

from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.labels.class_scores import NEAREST
from immr.governance.labels.cleaning import Labels, clean
from immr.storage import fingerprint

PHOTOS_PER_CLASS = 12
WRONG_SHARE = 0.3
DIM = 64
NOISE = 0.6  # standard deviation of a photo around its class, per dimension; that of the classes is 1


def looks_minus_dense_precision(classes: int, seed: int = 0) -> tuple[float, float]:
    """Precision of the kept labels with `NEAREST` classes per photo, minus that with all; the same for kept ones."""
    sparse, dense = (_cleaned(classes, nearest, seed) for nearest in (NEAREST, classes))
    return sparse[0] - dense[0], sparse[1] - dense[1]


def _cleaned(classes: int, nearest: int, seed: int) -> tuple[float, float]:
    """Precision of the labels after cleaning, and the share of right labels that are kept."""
    rng = np.random.default_rng([seed, 5])
    truth_N = np.repeat(np.arange(classes), PHOTOS_PER_CLASS)
    centres_CF = rng.standard_normal((classes, DIM), np.float32)
    centres_CF[1::2] = centres_CF[::2][: classes // 2] + 0.7 * centres_CF[1::2]  # look-alikes in pairs
    x_NF = centres_CF[truth_N] + NOISE * rng.standard_normal((len(truth_N), DIM), np.float32)
    wrong_N = rng.random(len(truth_N)) < WRONG_SHARE
    swapped_N, any_N = truth_N ^ 1, rng.integers(0, classes, len(truth_N))
    other_N = np.where(rng.random(len(truth_N)) < 0.5, swapped_N.clip(max=classes - 1), any_N)
    given_N = np.where(wrong_N, other_N, truth_N)
    rows = len(given_N)
    labels = Labels(
        given_N,
        np.full(rows, 0.75, np.float32),
        np.ones(rows, bool),
        np.stack([np.arange(rows), given_N], axis=1),
        np.ones(rows, np.float32),
        classes,
    )
    hashes = [fingerprint.of_values(row) for row in range(rows)]
    verdicts = clean(x_NF, hashes, labels, GovernanceRecipe(), nearest)
    right_N = verdicts.class_N == truth_N
    return float(right_N[verdicts.class_N >= 0].mean()), float(right_N[given_N == truth_N].mean())
