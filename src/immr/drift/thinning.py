"""Thins photos to independent ones: of a burst of near copies, one is kept. (ours)

A two-sample test assumes independent rows. Shoppers photograph one thing several times in a row, so three near
copies are one observation; counted as three, they raise an alarm on every comparison (`benchmarks.drift`). The
event log knows its users, so recent photos are one per user. Held-out photos come without users, so their bursts
are found by similarity: photos more alike than nearly all photos of different users.
"""

from __future__ import annotations

import numpy as np

from immr.types import FloatArray

_QUANTILE = 0.95  # of the similarity to the most similar photo of another user


def burst_cosine(of_users_ND: FloatArray) -> float:
    """Two photos whose cosine exceeds this value count as one burst.

    Args:
        of_users_ND: Embeddings of photos of different users, with unit rows; at least two.
    """
    cosine_NN = of_users_ND @ of_users_ND.T
    np.fill_diagonal(cosine_NN, -1)
    return float(np.quantile(cosine_NN.max(axis=1), _QUANTILE))


def one_of_each_burst(rows_ND: FloatArray, least_cosine: float) -> FloatArray:
    """The rows (K, D) that are not near copies of an earlier kept row.

    Args:
        rows_ND: Embeddings with unit rows.
        least_cosine: Rows with a higher cosine belong to one burst.
    """
    cosine_NN = rows_ND @ rows_ND.T
    kept: list[int] = []
    for row in range(len(rows_ND)):
        if not kept or cosine_NN[row, kept].max() <= least_cosine:
            kept.append(row)
    found: FloatArray = rows_ND[kept]
    return found
