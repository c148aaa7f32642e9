"""Filling a content with points, and verifying it before it may serve."""

from __future__ import annotations

import dataclasses
import logging

from immr.errors import IndexMismatchError
from immr.index.binding import Binding
from immr.index.documents import Documents, payload
from immr.index.engines.engine import EXACT, VectorEngine
from immr.index.recall import recall_at_k, sample_rows
from immr.index.vector_index import EVERYTHING
from immr.machine.progress_bar import ProgressBar
from immr.types import FloatArray

BATCH_POINTS = 1000
RECALL_SAMPLE = 100
MIN_RECALL = 0.98
HNSW_EFS = (64, 128, 256, 512)
"""Search widths, from fast to thorough; the first with enough recall is used (ours)."""

_log = logging.getLogger(__name__)


def fill(engine: VectorEngine, documents: Documents, batch_points: int = BATCH_POINTS) -> None:
    """Insert the points that are missing.

    Points that exist are correct, because a content is named by the hash of its documents. That makes an
    interrupted build resumable.
    """
    with ProgressBar("index", len(documents.ids), "documents") as progress:
        for start in range(0, len(documents.ids), batch_points):
            ids = documents.ids[start : start + batch_points]
            missing = engine.missing(ids)
            rows = [start + offset for offset, id in enumerate(ids) if id in missing]
            if rows:
                engine.put(
                    [documents.ids[row] for row in rows],
                    [documents.embeddings(row) for row in rows],
                    [payload(documents.items[row]) for row in rows],
                )
            progress.advance(len(ids))


def verify(engine: VectorEngine, content: str, documents: Documents) -> Binding:
    """Check that a content has all its points and that searches find them.

    Returns:
        The binding with the measured recall and the search width that reached it, marked as ready. If none did,
        searches will be exact: the graph cannot tell hundreds of items that look alike apart.

    Raises:
        IndexMismatchError: Points are missing, or exact searches do not find them.
    """
    count = engine.count()
    if count != documents.binding.points:
        raise IndexMismatchError(
            f"{content} holds {count} points although {documents.binding.points} were inserted: "
            f"run `immr index build TRAINING_SET --model {documents.binding.version_id}` again"
        )
    row_of = {point: row for row, point in enumerate(documents.ids)}
    queries_QD = documents.embeddings_PD[sample_rows(len(documents.embeddings_PD), RECALL_SAMPLE)]
    by_graph = 0.0
    for hnsw_ef in (*HNSW_EFS, EXACT):
        found = _neighbours(engine, row_of, queries_QD, hnsw_ef)
        recall = recall_at_k(found, queries_QD, documents.embeddings_PD, k=10, first_N=documents.first_N)
        if recall >= MIN_RECALL:
            if hnsw_ef == EXACT:
                _log.warning(
                    "the graph of %s finds only %.3f of the nearest documents, so searches will compare all %d "
                    "documents, which takes longer: docs/vector-index.md",
                    content,
                    by_graph,
                    count,
                )
            return dataclasses.replace(documents.binding, recall_at_10=recall, hnsw_ef=hnsw_ef, ready=True)
        by_graph = recall
    raise IndexMismatchError(
        f"recall@10 of {content} is {recall:.3f} even without its graph, below {MIN_RECALL}, so it is damaged: "
        "delete the collection and index again"
    )


def _neighbours(
    engine: VectorEngine, row_of: dict[int, int], queries_QD: FloatArray, hnsw_ef: int
) -> list[list[int]]:
    """Row numbers of the 10 nearest points of each query."""
    found = []
    for query_D in queries_QD:
        [points] = engine.nearest(query_D, [EVERYTHING], 10, hnsw_ef, with_payload=False)
        found.append([row_of[point.id] for point in points])
    return found
