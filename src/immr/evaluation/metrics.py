"""Retrieval metrics: pure functions over arrays.

Shapes: Q queries, N documents, D embedding size, K cut-off.

A query is answered by its first relevant document, so recall@K is the share of queries with a relevant
document among the first K. Ties are pessimistic: at equal scores irrelevant documents come first, so a model
that scores everything alike gets zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from immr.evaluation.bootstrap import ClusterIds, Estimate, Values
from immr.evaluation.proportions import mean_estimates
from immr.types import FloatArray

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

RECALL_CUTS = (1, 5, 10)
RANK_CUT = 10
NEVER = 2**31 - 1  # rank of a query without a relevant document: beyond every cut-off
_GROUPS = 4096
_DECIMALS = 6  # twin documents differ by the matrix product's rounding, so closer scores count as a tie


def lengths(rows_ND: FloatArray) -> FloatArray:
    """(N,) Euclidean, without the array of squares that `np.linalg.norm` makes."""
    return np.asarray(np.sqrt(np.vecdot(rows_ND, rows_ND)))


def unit_rows(rows_ND: FloatArray, out_ND: FloatArray | None = None) -> FloatArray:
    """(N, D) float32 rows of length one, in `out_ND` if it is given; no row may be zero."""
    unit_ND = np.empty(rows_ND.shape, np.float32) if out_ND is None else out_ND
    np.divide(rows_ND, lengths(rows_ND)[:, None], out=unit_ND, casting="same_kind")
    return unit_ND


def cosine_scores(query_QD: FloatArray, document_ND: FloatArray) -> FloatArray:
    """(Q, N) cosines of unit rows, rounded to six decimals."""
    scores_QN = np.asarray(query_QD @ document_ND.T, dtype=np.float32)
    return np.round(scores_QN, _DECIMALS, out=scores_QN)


def relevance(query_classes_Q: IntArray, document_classes_N: IntArray) -> BoolArray:
    """(Q, N) boolean: whether the document belongs to the query's class."""
    return np.equal.outer(query_classes_Q, document_classes_N).astype(np.bool_)


def ranks(scores_QN: FloatArray, relevant_QN: BoolArray) -> IntArray:
    """(Q,) 1-based rank of the best relevant document; NEVER if the query has none."""
    row_R, column_R = np.nonzero(relevant_QN)
    relevant_R = scores_QN[row_R, column_R]
    best_Q = np.full(len(scores_QN), -np.inf, scores_QN.dtype)
    np.maximum.at(best_Q, row_R, relevant_R)
    reaching_Q = (scores_QN >= best_Q[:, None]).sum(axis=1)
    equal_Q = np.bincount(row_R[relevant_R == best_Q[row_R]], minlength=len(scores_QN))
    return np.where(equal_Q > 0, 1 + reaching_Q - equal_Q, NEVER).astype(np.int64)


def ranks_of(scores_QN: FloatArray, positions_Q: IntArray) -> IntArray:
    """(Q,) 1-based rank of one document per query, ties pessimistic; `positions_Q` are its columns."""
    own_Q1 = np.take_along_axis(scores_QN, positions_Q[:, None], axis=1)
    return np.asarray((scores_QN >= own_Q1).sum(axis=1), dtype=np.int64)


def best_first(scores_QN: FloatArray, relevant_QN: BoolArray, k: int) -> IntArray:
    """(Q, min(K, N)) positions of the best documents, best first.

    Ties: irrelevant documents first, then document order. At least K documents of a row reach the Kth best of the
    best scores of G groups, if G ≥ K; only what reaches it is sorted.
    """
    queries, documents = scores_QN.shape
    k = min(k, documents)
    groups = max(k, min(_GROUPS, documents))
    best_QG = scores_QN[:, : documents // groups * groups].reshape(queries, -1, groups).max(axis=1)
    kth_Q1 = np.partition(best_QG, groups - k, axis=1)[:, [groups - k]]
    row_S, column_S = np.nonzero(scores_QN >= kth_Q1)  # S candidates
    order_S = np.lexsort((column_S, relevant_QN[row_S, column_S], -scores_QN[row_S, column_S], row_S))
    starts_Q = np.searchsorted(row_S, np.arange(queries))
    return np.asarray(column_S[order_S][starts_Q[:, None] + np.arange(k)], dtype=np.int64)


def recall_at(ranks_Q: IntArray, k: int) -> Values:
    """(Q,) 1 if a relevant document is among the first K, else 0."""
    return (ranks_Q <= k).astype(np.float64)


def reciprocal_rank_at(ranks_Q: IntArray, k: int = RANK_CUT) -> Values:
    """(Q,) 1/rank of the first relevant document, 0 beyond K."""
    return np.where(ranks_Q <= k, 1.0 / ranks_Q, 0.0)


def average_precision_at(top_QK: BoolArray, relevant_counts_Q: IntArray, k: int = RANK_CUT) -> Values:
    """(Q,) mean precision at the relevant documents among the first K; its mean over queries is mAP@K.

    Args:
        top_QK: relevance of the first documents, best first; fewer than K columns if there are fewer.
        relevant_counts_Q: relevant documents of each query. The mean is over all of them, or over K if there
            are more than K; a query without any gets 0.
        k: cut-off.
    """
    top_QK = top_QK[:, :k]
    precision_QK = top_QK.cumsum(axis=1) / np.arange(1, top_QK.shape[1] + 1)
    reachable_Q = np.clip(relevant_counts_Q, 1, k)
    return np.asarray((precision_QK * top_QK).sum(axis=1) / reachable_Q, dtype=np.float64)


def ndcg_at(top_QK: BoolArray, relevant_counts_Q: IntArray, k: int = RANK_CUT) -> Values:
    """(Q,) nDCG@K with binary gains (Järvelin and Kekäläinen, 2002); arguments as `average_precision_at`."""
    top_QK = top_QK[:, :k]
    discounts_K = 1.0 / np.log2(np.arange(2, top_QK.shape[1] + 2))
    gain_Q = top_QK @ discounts_K
    ideal_by_count = np.concatenate([[0.0], np.cumsum(discounts_K)])
    ideal_Q = ideal_by_count[np.minimum(relevant_counts_Q, len(discounts_K))]
    zeros_Q = np.zeros(len(gain_Q), dtype=np.float64)
    return np.asarray(np.divide(gain_Q, ideal_Q, out=zeros_Q, where=ideal_Q > 0), dtype=np.float64)


def rank_metrics(ranks_Q: IntArray, prefix: str = "") -> dict[str, Values]:
    """Metrics that follow from the rank alone, each (Q,): recall@1, recall@5, recall@10, mrr@10."""
    values = {f"{prefix}recall@{k}": recall_at(ranks_Q, k) for k in RECALL_CUTS}
    values[f"{prefix}mrr@{RANK_CUT}"] = reciprocal_rank_at(ranks_Q)
    return values


def list_metrics(top_QK: BoolArray, relevant_counts_Q: IntArray) -> dict[str, Values]:
    """Metrics of the list's first ten, each (Q,): map@10, ndcg@10. Arguments as `average_precision_at`."""
    return {
        f"map@{RANK_CUT}": average_precision_at(top_QK, relevant_counts_Q),
        f"ndcg@{RANK_CUT}": ndcg_at(top_QK, relevant_counts_Q),
    }


def class_means(values: Mapping[str, Values], classes_Q: IntArray | Sequence[int]) -> dict[str, Values]:
    """(C,) means within each class that has a query, so that a rare class weighs as much as a common one."""
    _, class_of_Q = np.unique(np.asarray(classes_Q), return_inverse=True)
    counts_C = np.bincount(class_of_Q)
    return {name: np.bincount(class_of_Q, weights=row_Q) / counts_C for name, row_Q in values.items()}


def summarize(
    values: Mapping[str, Values],
    clusterings: Sequence[ClusterIds],
    confidence: float = 0.95,
) -> dict[str, Estimate]:
    """Mean and interval of each metric.

    Args:
        values: by metric, (Q,) per query, or (C,) from `class_means`.
        clusterings: one or two, each with the cluster of each row; see `proportions`.
        confidence: coverage of the interval.
    """
    columns_QM = np.stack(list(values.values()), axis=1)
    estimates = mean_estimates(columns_QM, clusterings, confidence)
    return dict(zip(values, estimates, strict=True))
