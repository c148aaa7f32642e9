"""The same cases on every vector index: local mode, and the server that IMMR_TEST_QDRANT_URL names."""

import dataclasses
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import numpy as np
import pytest

from immr.errors import IndexMismatchError
from immr.index.qdrant import QdrantIndex
from immr.types import Item, ModelVersion

DIM = 16
ROWS = 300
CATEGORIES = ["Fruit/Apple", "Fruit/Pear", "Packages/Milk", "Packages/Milk/Oat", "Packages/Milkshake"]


@pytest.fixture(params=["local", "server"])
def url(request, tmp_path):
    if request.param == "local":
        return f"file://{tmp_path}/index"
    if not (server := os.environ.get("IMMR_TEST_QDRANT_URL")):
        pytest.skip("IMMR_TEST_QDRANT_URL names no Qdrant server")
    return server


@pytest.fixture
def index(url):
    return QdrantIndex(url)


@pytest.fixture
def version():
    return ModelVersion(f"t{uuid.uuid4().hex[:8]}", 1, "key", "run", DIM, "prep", "manifest", "concept")


@pytest.fixture(scope="module")
def items():
    when = datetime(2025, 1, 1, tzinfo=UTC)
    return [
        Item(f"i{n}", f"title {n}", "text", CATEGORIES[n % 5], f"{n}.jpg", 1.0 + n, when) for n in range(ROWS)
    ]


@pytest.fixture(scope="module")
def embeddings_ND():
    vectors = np.random.default_rng(7).normal(size=(ROWS, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def collection(index, version, items, embeddings_ND):
    index.build(version, items, embeddings_ND)
    collection = index.open(version.id, DIM, "prep")
    yield collection
    collection.close()


def test_build_reports_what_it_verified(index, version, items, embeddings_ND):
    report = index.build(version, items, embeddings_ND)
    assert report.collection == f"immr_{version.id}"
    assert (report.points, report.reused) == (ROWS, False)
    assert report.recall_at_10 >= 0.95


def test_same_content_is_reused_and_changed_content_is_not(index, version, items, embeddings_ND):
    first = index.build(version, items, embeddings_ND)
    again = index.build(version, items[::-1], embeddings_ND[::-1])
    assert again == dataclasses.replace(first, reused=True)
    changed = [dataclasses.replace(items[0], title="another title"), *items[1:]]
    assert not index.build(version, changed, embeddings_ND).reused
    collection = index.open(version.id, DIM, "prep")
    assert collection.item("i0").title == "another title"
    assert collection.count() == ROWS
    collection.close()
    assert not index.build(version, items[:-1], embeddings_ND[:-1]).reused
    assert index.build(version, items[:-1], embeddings_ND[:-1]).points == ROWS - 1


def test_search_finds_what_exact_search_finds(collection, items, embeddings_ND):
    query_D = embeddings_ND[42]
    similarities_N = embeddings_ND @ query_D
    best = np.argsort(-similarities_N)[:5]
    found = collection.search(query_D, 5)
    assert [candidate.item_id for candidate in found] == [items[row].item_id for row in best]
    assert [candidate.cosine for candidate in found] == pytest.approx(similarities_N[best], abs=1e-5)
    assert (found[0].title, found[0].image, found[0].category) == ("title 42", "42.jpg", items[42].category)


@pytest.mark.parametrize(
    ("category", "kept"),
    [
        ("Fruit", {"Fruit/Apple", "Fruit/Pear"}),
        ("Packages/Milk", {"Packages/Milk", "Packages/Milk/Oat"}),
        ("Packages/Milk/", {"Packages/Milk", "Packages/Milk/Oat"}),
        ("Packages/Milkshake", {"Packages/Milkshake"}),
        ("Mil", set()),
        ("", set(CATEGORIES)),
    ],
)
def test_a_category_keeps_its_path_and_what_is_below(collection, embeddings_ND, category, kept):
    found = collection.search(embeddings_ND[0], ROWS, category=category)
    assert {candidate.category for candidate in found} == kept
    assert len(found) == ROWS // 5 * len(kept)


def test_item_by_id(collection):
    found = collection.item("i7")
    assert (found.item_id, found.title, found.cosine) == ("i7", "title 7", 1.0)
    assert collection.item("no such item") is None


def test_more_than_there_is_gives_all(collection, embeddings_ND):
    assert len(collection.search(embeddings_ND[0], 10 * ROWS)) == ROWS


def test_many_threads_search_at_once(collection, items, embeddings_ND):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda row: collection.search(embeddings_ND[row], 3)[0].item_id, range(60)))
    assert found == [items[row].item_id for row in range(60)]


def test_another_dimension_or_preprocessing_is_a_mismatch(index, version, collection):
    with pytest.raises(IndexMismatchError, match=rf"dim {DIM}, but .* dim 8: run `immr index --model"):
        index.open(version.id, 8, "prep")
    with pytest.raises(IndexMismatchError, match=r"preprocessing prep, but .* preprocessing other"):
        index.open(version.id, DIM, "other")
    with pytest.raises(IndexMismatchError, match=rf"shape \(8,\).*{DIM} dimensions"):
        collection.search(np.ones(8, dtype=np.float32), 1)


def test_a_version_without_a_collection_is_a_mismatch(index, version):
    with pytest.raises(IndexMismatchError, match=f"no finished collection immr_{version.id}"):
        index.open(version.id, DIM, "prep")


def test_embeddings_of_another_dimension_are_refused(index, version, items, embeddings_ND):
    with pytest.raises(IndexMismatchError, match=f"{version.id} has {DIM} dimensions"):
        index.build(version, items, embeddings_ND[:, :8])
