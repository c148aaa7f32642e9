"""Retrieval metrics: pure functions over arrays.

Shapes: Q queries, N documents, D embedding size, K cut-off.
`relevant_QN` is boolean: every document of the query's class is right. A query is answered by the first right
one, so recall@K here is the share of queries with a right document among the first K.
Ties are pessimistic: at equal scores the wrong documents go first, so a model that gives everything the same
score earns nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from immr.evaluation.bootstrap import Interval, Values, mean_intervals
from immr.types import FloatArray

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

RECALL_CUTS = (1, 5, 10)
RANK_CUT = 10
NEVER = 2**31 - 1  # the rank where no document is right: beyond every cut-off
_DECIMALS = (
    6  # scores closer than this are a tie: twin documents differ by the matrix product's rounding alone
)


def cosine_scores(query_QD: FloatArray, document_ND: FloatArray) -> FloatArray:
    """(Q, N) cosines, rounded to six decimals; rows need not be of unit length, but not zero."""
    scores_QN = _unit(query_QD) @ _unit(document_ND).T
    return np.round(scores_QN, _DECIMALS).astype(np.float32)


def relevance(query_classes_Q: IntArray, document_classes_N: IntArray) -> BoolArray:
    """(Q, N) boolean: the document is of the query's class."""
    return np.equal.outer(query_classes_Q, document_classes_N).astype(np.bool_)


def ranks(scores_QN: FloatArray, relevant_QN: BoolArray) -> IntArray:
    """(Q,) 1-based rank of the best right document, ties pessimistic; NEVER where none is right."""
    best_right_Q1 = np.where(relevant_QN, scores_QN, -np.inf).max(axis=1, keepdims=True)
    ahead_Q = ((scores_QN >= best_right_Q1) & ~relevant_QN).sum(axis=1)
    return np.where(relevant_QN.any(axis=1), 1 + ahead_Q, NEVER).astype(np.int64)


def best_first(scores_QN: FloatArray, relevant_QN: BoolArray, k: int) -> IntArray:
    """(Q, min(K, N)) document positions, best score first; ties wrong first, then in document order."""
    return np.lexsort((relevant_QN, -scores_QN), axis=-1)[:, :k].astype(np.int64)


def recall_at(ranks_Q: IntArray, k: int) -> Values:
    """(Q,) 1 where a right document is among the first K, else 0."""
    return (ranks_Q <= k).astype(np.float64)


def reciprocal_rank_at(ranks_Q: IntArray, k: int = RANK_CUT) -> Values:
    """(Q,) 1/rank of the first right document, 0 beyond K."""
    return np.where(ranks_Q <= k, 1.0 / ranks_Q, 0.0)


def average_precision_at(scores_QN: FloatArray, relevant_QN: BoolArray, k: int = RANK_CUT) -> Values:
    """(Q,) mean of the precisions at the right documents among the first K; 0 where none is right.

    The mean is over all right documents, or over K where there are more than fit; its mean over queries is
    mAP@K.
    """
    order_QK = best_first(scores_QN, relevant_QN, k)
    right_QK = np.take_along_axis(relevant_QN, order_QK, axis=1)
    precision_QK = right_QK.cumsum(axis=1) / np.arange(1, right_QK.shape[1] + 1)
    reachable_Q = np.clip(relevant_QN.sum(axis=1), 1, k)
    return np.asarray((precision_QK * right_QK).sum(axis=1) / reachable_Q, dtype=np.float64)


def ndcg_at(scores_QN: FloatArray, relevant_QN: BoolArray, k: int = RANK_CUT) -> Values:
    """(Q,) nDCG@K with binary gains (Järvelin and Kekäläinen, 2002); 0 where no document is right."""
    order_QK = best_first(scores_QN, relevant_QN, k)
    discounts_K = 1.0 / np.log2(np.arange(2, order_QK.shape[1] + 2))
    gain_Q = np.take_along_axis(relevant_QN, order_QK, axis=1) @ discounts_K
    ideal_by_count = np.concatenate([[0.0], np.cumsum(discounts_K)])
    ideal_Q = ideal_by_count[np.minimum(relevant_QN.sum(axis=1), len(discounts_K))]
    zeros_Q = np.zeros(len(gain_Q), dtype=np.float64)
    return np.asarray(np.divide(gain_Q, ideal_Q, out=zeros_Q, where=ideal_Q > 0), dtype=np.float64)


def per_query(scores_QN: FloatArray, relevant_QN: BoolArray) -> dict[str, Values]:
    """All metrics by name, each (Q,): recall@1, recall@5, recall@10, mrr@10, map@10, ndcg@10."""
    ranks_Q = ranks(scores_QN, relevant_QN)
    values = {f"recall@{k}": recall_at(ranks_Q, k) for k in RECALL_CUTS}
    values[f"mrr@{RANK_CUT}"] = reciprocal_rank_at(ranks_Q)
    values[f"map@{RANK_CUT}"] = average_precision_at(scores_QN, relevant_QN)
    values[f"ndcg@{RANK_CUT}"] = ndcg_at(scores_QN, relevant_QN)
    return values


def class_means(values: Mapping[str, Values], classes_Q: IntArray | Sequence[int]) -> dict[str, Values]:
    """(C,) means within each class that has a query: a rare class weighs as much as a common one."""
    _, class_of_Q = np.unique(np.asarray(classes_Q), return_inverse=True)
    counts_C = np.bincount(class_of_Q)
    return {name: np.bincount(class_of_Q, weights=row_Q) / counts_C for name, row_Q in values.items()}


def summarize(
    values: Mapping[str, Values], rounds: int = 2000, confidence: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Mean and bootstrap interval of each metric; all metrics see the same draws.

    Args:
        values: by metric, (Q,) per-query values, or (C,) from `class_means` for the class-macro variant,
            where the unit that is drawn again is the class.
        rounds: bootstrap rounds.
        confidence: of the interval.
        seed: of the draws.
    """
    intervals = mean_intervals(np.stack(list(values.values()), axis=1), rounds, confidence, seed)
    return dict(zip(values, intervals, strict=True))


def _unit(rows_ND: FloatArray) -> FloatArray:
    return np.asarray(rows_ND / np.linalg.norm(rows_ND, axis=1, keepdims=True), dtype=np.float32)
