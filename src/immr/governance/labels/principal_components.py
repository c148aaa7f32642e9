"""Reduces photos' features to their first principal components where they would not fit in memory. (ours)

Comparing each photo with each class costs N × C × F. At 300,000 photos, 200,000 classes and 2,304 features that
takes hours and 30 GiB; with 256 components a ninth of both.

Shapes: N photos, F features, K components, S sampled photos.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from immr.governance.labels.class_scores import Bools, power_normalised
from immr.types import FloatArray

MOST_CELLS = 2**27  # photos or classes × features that are kept whole
COMPONENTS = 256
_SAMPLED = 20_000
_BLOCK_ROWS = 8192


def components(photos: int, classes: int, features: int) -> int:
    """K, the number of values kept per photo."""
    return features if max(photos, classes) * features <= MOST_CELLS else min(features, COMPONENTS)


def compact(features_NF: FloatArray, classes: int) -> tuple[FloatArray, Bools]:
    """Power-normalised features, (N, K): their principal components, or all of them if they are small enough.

    The features are read block by block, so they may be in a file that is larger than memory.

    Args:
        features_NF: in the same order whenever the data are the same, because evenly spaced rows are sampled.
        classes: C.

    Returns:
        (N, K), of zeros for a photo whose features are not finite; and (N,) whether they are.
    """
    photos, features = features_NF.shape
    kept = components(photos, classes, features)
    seen_N = np.empty(photos, bool)
    compact_NK = np.empty((photos, kept), np.float32)
    project = _projection(features_NF, kept) if kept < features else None
    for start in range(0, photos, _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        rows_BF, seen_N[block] = _normalised(features_NF[block])
        compact_NK[block] = project(rows_BF) if project else rows_BF
    return compact_NK, seen_N


def _projection(features_NF: FloatArray, kept: int) -> Callable[[FloatArray], FloatArray]:
    """From (B, F) to (B, K), fitted to a sample."""
    sample_SF = _normalised(features_NF[:: -(-len(features_NF) // _SAMPLED)])[0].astype(np.float64)
    mean_F = sample_SF.mean(axis=0)
    sample_SF -= mean_F
    basis_FK = np.linalg.eigh(sample_SF.T @ sample_SF)[1][:, : -kept - 1 : -1].astype(np.float32)
    basis_FK *= np.sign(basis_FK[np.abs(basis_FK).argmax(axis=0), np.arange(kept)])

    def project(rows_BF: FloatArray) -> FloatArray:
        rows_BK: FloatArray = (rows_BF - mean_F.astype(np.float32)) @ basis_FK
        return rows_BK

    return project


def _normalised(features_BF: FloatArray) -> tuple[FloatArray, Bools]:
    seen_B = np.asarray(np.isfinite(features_BF).all(axis=1))
    return power_normalised(
        features_BF if seen_B.all() else np.where(seen_B[:, None], features_BF, 0)
    ), seen_B
