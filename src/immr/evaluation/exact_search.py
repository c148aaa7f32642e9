"""Exact search over all documents, in blocks of queries, so that memory does not grow with Q × N.

Shapes: Q queries, N documents, P pictures of all documents, D embedding size, K top documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from immr.evaluation import metrics
from immr.evaluation.metrics import BoolArray, IntArray
from immr.machine.progress_bar import ProgressBar
from immr.storage.scratch import scratch
from immr.types import FloatArray

MAX_CELLS = 16_000_000  # queries × documents scored at a time: about 250 MB with temporaries


@dataclass(frozen=True)
class SearchResult:
    """What exact search found for each query."""

    ranks: IntArray  # (Q,) of the best document of the query's class
    exact_ranks: IntArray  # (Q,) of the query's own document; 0 if it has none
    relevant_counts: IntArray  # (Q,) documents of the query's class
    top: IntArray  # (Q, K) document positions, best first
    top_scores: FloatArray  # (Q, K) cosines
    top_right: BoolArray  # (Q, K) whether the document belongs to the query's class


def exact_search(
    queries_QD: FloatArray,
    query_classes_Q: IntArray,
    own_documents_Q: IntArray,
    documents_PD: FloatArray,
    document_classes_N: IntArray,
    k: int = metrics.RANK_CUT,
    pictures_N: Sequence[int] | None = None,
    max_cells: int = MAX_CELLS,
) -> SearchResult:
    """Rank all documents for every query by cosine; ties are pessimistic, see `metrics`.

    Args:
        queries_QD: query embeddings; rows need not have unit length, but none may be zero.
        query_classes_Q: class of each query.
        own_documents_Q: position of the one exact document of each query, −1 if unknown.
        documents_PD: document embeddings, as the queries.
        document_classes_N: class of each document.
        k: documents to return.
        pictures_N: how many rows each document has, one after the other; its best one counts. None: one each.
        max_cells: limit on queries × documents scored at a time; one query is the smallest block.
    """
    queries_QD = metrics.unit_rows(queries_QD)
    documents_PD = metrics.unit_rows(documents_PD, scratch(documents_PD.shape))
    block = max(1, max_cells // len(documents_PD))
    parts = list[SearchResult]()
    with ProgressBar("exact search", len(queries_QD), "photos") as progress:
        for start in range(0, len(queries_QD), block):
            part = slice(start, start + block)
            of_queries = (queries_QD[part], query_classes_Q[part], own_documents_Q[part])
            parts.append(_search_block(*of_queries, documents_PD, document_classes_N, k, pictures_N))
            progress.advance(len(of_queries[0]))
    return _joined(parts)


def best_picture(scores_QP: FloatArray, pictures_N: Sequence[int] | None) -> FloatArray:
    """(Q, N): the best score of each document's rows; `pictures_N` as in `exact_search`."""
    if pictures_N is None or max(pictures_N, default=1) == 1:
        return scores_QP
    first_N = np.cumsum([0, *pictures_N[:-1]])
    best_QN: FloatArray = np.maximum.reduceat(scores_QP, first_N, axis=1)
    return best_QN


def _search_block(
    queries_QD: FloatArray,
    query_classes_Q: IntArray,
    own_documents_Q: IntArray,
    documents_PD: FloatArray,
    document_classes_N: IntArray,
    k: int,
    pictures_N: Sequence[int] | None,
) -> SearchResult:
    scores_QN = best_picture(metrics.cosine_scores(queries_QD, documents_PD), pictures_N)
    relevant_QN = metrics.relevance(query_classes_Q, document_classes_N)
    top_QK = metrics.best_first(scores_QN, relevant_QN, k)
    exact_ranks_Q = metrics.ranks_of(scores_QN, np.maximum(own_documents_Q, 0))
    return SearchResult(
        ranks=metrics.ranks(scores_QN, relevant_QN),
        exact_ranks=np.where(own_documents_Q >= 0, exact_ranks_Q, 0),
        relevant_counts=relevant_QN.sum(axis=1),
        top=top_QK,
        top_scores=np.take_along_axis(scores_QN, top_QK, axis=1),
        top_right=np.take_along_axis(relevant_QN, top_QK, axis=1),
    )


def _joined(parts: Sequence[SearchResult]) -> SearchResult:
    return SearchResult(
        ranks=np.concatenate([part.ranks for part in parts]),
        exact_ranks=np.concatenate([part.exact_ranks for part in parts]),
        relevant_counts=np.concatenate([part.relevant_counts for part in parts]),
        top=np.concatenate([part.top for part in parts]),
        top_scores=np.concatenate([part.top_scores for part in parts]),
        top_right=np.concatenate([part.top_right for part in parts]),
    )
