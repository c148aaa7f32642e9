import dataclasses

import numpy as np
import pytest
from PIL import Image

from immr.data.training_set import TrainingSet
from immr.errors import RecipeError
from immr.model import prototypes
from immr.model.documents import encode_documents
from immr.model.prototypes import Prototypes, prototypes_of
from immr.model.query_encoder import OnnxQueryEncoder
from immr.train.export import export_query_encoder
from tests.support import tiny_training_set
from tests.support.untrained_version import write_untrained

MODEL = dataclasses.replace(tiny_training_set.MODEL, photo_weight=0.5)


def test_photos_move_their_items_document_by_their_number_and_no_other_document():
    documents_ND = np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32)
    known = Prototypes({"a": 0, "c": 1}, np.array([[0, 2], [0, 6]], dtype=np.float32))
    mixed_ND = known.mixed(["a", "b", "c"], documents_ND, photo_weight=0.5)
    np.testing.assert_allclose(mixed_ND[0], np.array([1, 1]) / 2**0.5, rtol=1e-6)
    np.testing.assert_array_equal(mixed_ND[1], documents_ND[1])
    np.testing.assert_allclose(mixed_ND[2], np.array([1, 3]) / 10**0.5, rtol=1e-6)


def test_a_prototype_is_the_sum_of_its_photos_as_they_are_searched_with(training_set, cache_dir, tmp_path):
    towers = write_untrained(tmp_path, "image")
    export_query_encoder(MODEL, towers.query, tmp_path, cache_dir)
    found = prototypes_of(training_set, MODEL, towers.query, tmp_path, cache_dir)
    of_class = [photo for photo in training_set.queries if photo.class_id == 2]
    embedded_ND = OnnxQueryEncoder(tmp_path).encode([Image.open(photo.image) for photo in of_class])
    summed_D = found.sums_CD[found.row_of["item-2-blue"]]
    np.testing.assert_allclose(summed_D, embedded_ND.sum(0), atol=0.02)


def test_a_version_reads_its_prototypes_and_its_documents_move_towards_them(
    training_set, cache_dir, tmp_path
):
    towers = write_untrained(tmp_path, "image")
    assert Prototypes.read(tmp_path) is None
    before_ND = encode_documents(tmp_path, training_set.items, cache_dir, photo_weight=0.5)
    found = prototypes_of(training_set, MODEL, towers.query, tmp_path, cache_dir)
    found.write(tmp_path)
    read = Prototypes.read(tmp_path)
    assert read and read.row_of == found.row_of
    np.testing.assert_allclose(read.sums_CD, found.sums_CD, rtol=1e-3, atol=1e-3)
    after_ND = encode_documents(tmp_path, training_set.items, cache_dir, photo_weight=0.5)
    expected_ND = read.mixed([item.item_id for item in training_set.items], before_ND, MODEL.photo_weight)
    np.testing.assert_allclose(after_ND, expected_ND, atol=1e-6)
    assert not np.allclose(after_ND, before_ND, atol=0.01)


def test_a_class_without_photos_has_none(cache_dir, tmp_path):
    training_set = tiny_training_set.write(tmp_path, unseen=frozenset([1]))
    towers = write_untrained(tmp_path / "version", "image")
    found = prototypes_of(training_set, MODEL, towers.query, tmp_path / "version", cache_dir)
    assert "item-1-green" not in found.row_of
    assert len(found.row_of) == len(found.sums_CD) == 5


def test_of_many_photos_those_with_the_best_labels_are_taken(training_set, monkeypatch):
    monkeypatch.setattr(prototypes, "_PHOTOS_PER_CLASS", 1)
    training_set = TrainingSet(training_set.folder)
    best = next(photo for photo in training_set.queries if photo.query_id == "q23")
    doubted = [
        photo if photo is best else dataclasses.replace(photo, weight=0.4) for photo in training_set.queries
    ]
    training_set.__dict__["queries"] = doubted
    chosen = prototypes._chosen(training_set)
    assert len(chosen) == 6
    assert best in chosen


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_the_weight_of_a_photo_is_checked(weight):
    with pytest.raises(RecipeError, match="photo_weight"):
        dataclasses.replace(MODEL, photo_weight=weight)
