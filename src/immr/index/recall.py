"""Recall of an index against exact search; pure functions over arrays.

Shapes: N documents with P embeddings, D dimensions, Q queries.
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
    lengths_N = np.sqrt(np.vecdot(embeddings_ND, embeddings_ND))  # np.linalg.norm makes an array of squares
    return bool(np.all(np.abs(lengths_N - 1.0) <= tolerance))


def recall_at_k(
    found: Sequence[Sequence[int]],
    queries_QD: FloatArray,
    documents_PD: FloatArray,
    k: int = 10,
    first_N: npt.NDArray[np.intp] | None = None,
) -> float:
    """Share of the exact k nearest documents that were found, averaged over the queries.

    A found document counts if it is at least as similar as the k-th exact neighbour, so ties do not matter.

    Args:
        found: For each query, the row numbers of the documents that the index returned, best first.
        queries_QD: (Q, D) unit rows.
        documents_PD: (P, D) unit rows; a document is as similar as the most similar of its rows.
        k: Neighbours per query; at most N are used.
        first_N: (N + 1,) the first row of each document, then P; None: a document has one row.

    Returns:
        A number between 0 and 1.
    """
    k = min(k, len(documents_PD) if first_N is None else len(first_N) - 1)
    shares = []
    for rows, query_D in zip(found, queries_QD, strict=True):
        similarities_N = documents_PD @ query_D  # one query at a time, to fit a million documents in memory
        if first_N is not None and len(first_N) <= len(documents_PD):
            similarities_N = np.maximum.reduceat(similarities_N, first_N[:-1])
        kth_best = np.partition(similarities_N, -k)[-k]
        shares.append(sum(similarities_N[row] >= kth_best - TIE_TOLERANCE for row in set(rows[:k])) / k)
    return float(np.mean(shares))
