"""Fill a content and verify it, so that what was cut off goes on and nothing unverified serves."""

from __future__ import annotations

import dataclasses

from tqdm import tqdm

from immr.errors import IndexMismatchError
from immr.index.documents import Binding, Documents
from immr.index.engine import Engine
from immr.index.vector_index import EVERYTHING
from immr.index.verify import recall_at_k, sample_rows
from immr.types import FloatArray

BATCH_POINTS = 1000
RECALL_SAMPLE = 100
MIN_RECALL = 0.98
HNSW_EFS = (64, 128, 256, 512)
"""How widely a search looks, from fast to thorough: the first that is thorough enough is taken (ours)."""


def fill(engine: Engine, documents: Documents, batch_points: int = BATCH_POINTS) -> None:
    """Put in the points that are not there yet: the content's name is its hash, so those there are right."""
    for start in tqdm(range(0, len(documents.ids), batch_points), desc="index", disable=None):
        ids = documents.ids[start : start + batch_points]
        missing = engine.missing(ids)
        rows = [start + offset for offset, id in enumerate(ids) if id in missing]
        if rows:
            engine.put(
                [documents.ids[row] for row in rows],
                documents.embeddings_ND[rows],
                [documents.payloads[row] for row in rows],
            )


def verify(engine: Engine, content: str, documents: Documents) -> Binding:
    """The binding of a content that has all points and finds them.

    Raises:
        IndexMismatchError: points are missing, or the recall is too low however widely it looks.
    """
    count = engine.count()
    if count != documents.binding.points:
        raise IndexMismatchError(
            f"{content} holds {count} points, but {documents.binding.points} were put in: "
            f"run `immr index build --model {documents.binding.version_id}` again"
        )
    row_of = {point: row for row, point in enumerate(documents.ids)}
    queries_QD = documents.embeddings_ND[sample_rows(len(documents.ids), RECALL_SAMPLE)]
    for hnsw_ef in HNSW_EFS:
        found = _neighbours(engine, row_of, queries_QD, hnsw_ef)
        recall = recall_at_k(found, queries_QD, documents.embeddings_ND, k=10)
        if recall >= MIN_RECALL:
            return dataclasses.replace(documents.binding, recall_at_10=recall, hnsw_ef=hnsw_ef, ready=True)
    raise IndexMismatchError(
        f"{content} finds {recall:.3f} of the 10 nearest documents, less than {MIN_RECALL}, even with "
        f"ef {HNSW_EFS[-1]}: raise ef_construct of the engine and index again"
    )


def _neighbours(
    engine: Engine, row_of: dict[str, int], queries_QD: FloatArray, hnsw_ef: int
) -> list[list[int]]:
    return [
        [row_of[point.id] for point in engine.nearest(query_D, 10, 0, EVERYTHING, hnsw_ef)]
        for query_D in queries_QD
    ]
