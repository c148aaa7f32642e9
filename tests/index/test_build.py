"""Verifying a content before it serves, on a real shard."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from immr.errors import IndexMismatchError
from immr.index.build import HNSW_EFS, fill, verify
from immr.index.documents import Documents
from immr.index.engines.edge import EdgeEngine
from immr.index.engines.engine import EXACT, Found
from immr.index.vector_index import EVERYTHING
from immr.types import Filters, FloatArray, Item, ModelVersion

ITEMS, DIM = 40, 8
VERSION = ModelVersion("immr-1", 1, "key", "run", DIM, "prep", "manifest", "none")


class WithPoorGraph(EdgeEngine):
    """Searches by the graph find one document."""

    def nearest(
        self,
        embedding_D: FloatArray,
        filters: Sequence[Filters],
        limit: int,
        hnsw_ef: int,
        offset: int = 0,
        with_payload: bool = True,
    ) -> list[list[Found]]:
        found = super().nearest(embedding_D, filters, limit, hnsw_ef, offset, with_payload)
        return found if hnsw_ef == EXACT else [points[:1] for points in found]


@pytest.fixture(scope="module")
def documents() -> Documents:
    rows_ND = np.random.default_rng(0).standard_normal((ITEMS, DIM), dtype=np.float32)
    rows_ND /= np.linalg.norm(rows_ND, axis=1, keepdims=True)
    when = datetime(2025, 1, 1, tzinfo=UTC)
    items = [Item(f"i{row:02d}", "", "", "Things", "", 1.0, when) for row in range(ITEMS)]
    return Documents.of(VERSION, items, rows_ND)


@pytest.fixture
def engine(documents: Documents, tmp_path: Path) -> Iterator[WithPoorGraph]:
    with closing(WithPoorGraph(tmp_path / "data")) as engine:
        engine.create(DIM, {})
        fill(engine, documents)
        engine.settle(60)
        yield engine


def test_an_exact_search_compares_all_documents(engine: WithPoorGraph, documents: Documents) -> None:
    query_D = documents.embeddings_PD[3]
    [found] = engine.nearest(query_D, [EVERYTHING], 10, EXACT)
    expected = np.argsort(-(documents.embeddings_PD @ query_D))[:10]
    assert [point.id for point in found] == [documents.ids[row] for row in expected]


def test_searches_are_exact_if_the_graph_finds_too_few(
    engine: WithPoorGraph, documents: Documents, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        binding = verify(engine, "content", documents)
    assert binding.ready and binding.hnsw_ef == EXACT and binding.recall_at_10 == 1
    assert "finds only 0.100 of the nearest documents" in caplog.text


def test_the_smallest_sufficient_width_is_kept(documents: Documents, tmp_path: Path) -> None:
    with closing(EdgeEngine(tmp_path / "data")) as engine:
        engine.create(DIM, {})
        fill(engine, documents)
        engine.settle(60)
        assert verify(engine, "content", documents).hnsw_ef == HNSW_EFS[0]


def test_missing_points_are_refused(engine: WithPoorGraph, documents: Documents) -> None:
    engine.remove(documents.ids[:1])
    with pytest.raises(IndexMismatchError, match="holds 39 points although 40 were inserted"):
        verify(engine, "content", documents)
