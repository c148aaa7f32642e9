import dataclasses
from datetime import UTC, datetime

import numpy as np
import pytest

from immr.errors import ContractError, IndexMismatchError
from immr.index.documents import Documents, category_prefixes, point_id
from immr.types import Item, ModelVersion

VERSION = ModelVersion("immr", 3, "key", "run", 4, "prep", "manifest", "concept")


def _items(count):
    when = datetime(2025, 1, 1, tzinfo=UTC)
    return [Item(f"i{n}", f"title {n}", "text", "Fruit/Apple", f"{n}.jpg", 1.5, when) for n in range(count)]


def test_the_order_of_items_does_not_change_the_content_hash():
    items, embeddings_ND = _items(4), np.eye(4, dtype=np.float32)
    forward = Documents.of(VERSION, items, embeddings_ND)
    backward = Documents.of(VERSION, items[::-1], embeddings_ND[::-1])
    assert forward.binding == backward.binding
    assert np.array_equal(forward.embeddings_PD, backward.embeddings_PD)


def test_price_embedding_version_and_sequence_change_the_content_hash():
    items, embeddings_ND = _items(4), np.eye(4, dtype=np.float32)
    first = Documents.of(VERSION, items, embeddings_ND).binding.content_hash
    dearer = [dataclasses.replace(items[0], price=9.0), *items[1:]]
    assert Documents.of(VERSION, dearer, embeddings_ND).binding.content_hash != first
    assert Documents.of(VERSION, items, embeddings_ND[[1, 0, 2, 3]]).binding.content_hash != first
    other = dataclasses.replace(VERSION, number=4)
    assert Documents.of(other, items, embeddings_ND).binding.content_hash != first
    assert Documents.of(VERSION, items, embeddings_ND, sequence=1).binding.content_hash != first


def test_invalid_documents_are_refused():
    embeddings_ND = np.eye(4, dtype=np.float32)
    with pytest.raises(ContractError, match="no items"):
        Documents.of(VERSION, [], np.zeros((0, 4), dtype=np.float32))
    with pytest.raises(ContractError, match="repeated"):
        Documents.of(VERSION, _items(3) + _items(1), embeddings_ND)
    with pytest.raises(ContractError, match="length 1"):
        Documents.of(VERSION, _items(4), 2 * embeddings_ND)
    with pytest.raises(IndexMismatchError, match="immr-3 has 4 dimensions"):
        Documents.of(VERSION, _items(5), np.eye(5, dtype=np.float32))


def test_category_prefixes():
    assert category_prefixes("Packages/Milk/Oat") == ["Packages", "Packages/Milk", "Packages/Milk/Oat"]
    assert category_prefixes("") == []


def test_point_ids_are_deterministic():
    assert point_id("i1") == point_id("i1") != point_id("i2")


def test_rows_stay_with_their_item_and_their_number_must_fit():
    rows_PD = np.eye(4, dtype=np.float32)
    items = _items(3)[::-1]
    documents = Documents.of(VERSION, items, rows_PD, pictures_N=[2, 1, 1])
    assert documents.first_N.tolist() == [0, 1, 2, 4] and documents.binding.several_pictures
    assert np.array_equal(documents.embeddings(2), rows_PD[:2])
    other = Documents.of(VERSION, items, rows_PD, pictures_N=[1, 2, 1])
    assert other.binding.content_hash != documents.binding.content_hash
    with pytest.raises(IndexMismatchError, match="5 pictures"):
        Documents.of(VERSION, items, rows_PD, pictures_N=[2, 2, 1])
