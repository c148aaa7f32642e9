"""Reduces photos' features to their first principal components where they would not fit in memory. (ours)

Comparing each photo with each class costs N × C × F. At 300,000 photos, 200,000 classes and 2,304 features that
takes hours and 30 GiB; with 256 components a ninth of both.

Shapes: N photos, F features, K components, S sampled photos.
"""

from __future__ import annotations

import numpy as np

from immr.types import FloatArray

MOST_CELLS = 2**27  # photos or classes × features that are kept whole
COMPONENTS = 256
_SAMPLED = 20_000
_BLOCK_ROWS = 8192


def components(photos: int, classes: int, features: int) -> int:
    """K, the number of values kept per photo."""
    return features if max(photos, classes) * features <= MOST_CELLS else min(features, COMPONENTS)


def compact(x_NF: FloatArray, classes: int) -> FloatArray:
    """(N, K) principal components of the photos; `x_NF` itself where it is small enough.

    Args:
        x_NF: features in the same order whenever the data are the same, because evenly spaced rows are sampled.
        classes: C.
    """
    photos, features = x_NF.shape
    kept = components(photos, classes, features)
    if kept == features:
        return x_NF
    sample_SF = x_NF[:: -(-photos // _SAMPLED)].astype(np.float64)
    mean_F = sample_SF.mean(axis=0)
    spread_FF = (sample_SF - mean_F).T @ (sample_SF - mean_F)
    basis_FK = np.linalg.eigh(spread_FF)[1][:, : -kept - 1 : -1].astype(np.float32)
    basis_FK *= np.sign(basis_FK[np.abs(basis_FK).argmax(axis=0), np.arange(kept)])
    compact_NK = np.empty((photos, kept), np.float32)
    for start in range(0, photos, _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        compact_NK[block] = (x_NF[block] - mean_F.astype(np.float32)) @ basis_FK
    return compact_NK
