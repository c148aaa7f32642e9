"""Recall of an index against exact search; pure functions over arrays.

Shapes: N documents, D dimensions, Q queries.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from immr.types import FloatArray

TIE_TOLERANCE = 1e-5  # float32 sums in a different order differ by less


def sample_rows(rows: int, size: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """Up to `size` distinct row numbers below `rows`, ascending; the same for the same seed."""
    generator = np.random.default_rng(seed)
    return np.sort(generator.choice(rows, size=min(size, rows), replace=False)).astype(np.int64)


def are_unit_rows(embeddings_ND: FloatArray, tolerance: float = 1e-3) -> bool:
    """Whether every row is finite and has length 1."""
    return bool(np.all(np.abs(np.linalg.norm(embeddings_ND, axis=1) - 1.0) <= tolerance))


def recall_at_k(
    found: Sequence[Sequence[int]], queries_QD: FloatArray, documents_ND: FloatArray, k: int = 10
) -> float:
    """Share of the exact k nearest documents that were found, averaged over the queries.

    A found document counts if it is at least as similar as the k-th exact neighbour, so ties do not matter.

    Args:
        found: For each query, the row numbers of the documents that the index returned, best first.
        queries_QD: (Q, D) unit rows.
        documents_ND: (N, D) unit rows.
        k: Neighbours per query; at most N are used.

    Returns:
        A number between 0 and 1.
    """
    k = min(k, len(documents_ND))
    shares = []
    for rows, query_D in zip(found, queries_QD, strict=True):
        similarities_N = documents_ND @ query_D  # one query at a time, to fit a million documents in memory
        kth_best = np.partition(similarities_N, -k)[-k]
        shares.append(sum(similarities_N[row] >= kth_best - TIE_TOLERANCE for row in set(rows[:k])) / k)
    return float(np.mean(shares))
