import dataclasses

import numpy as np
from PIL import Image

from immr.data.training_set import TrainingSet
from immr.model.features import class_photo_features
from immr.model.features.class_photo_features import class_photos_of
from immr.model.query_encoder import OnnxQueryEncoder
from immr.train.export import export_query_encoder
from tests.support import tiny_training_set
from tests.support.untrained_version import write_untrained

MODEL = dataclasses.replace(tiny_training_set.MODEL, photos_per_class=32)


def test_class_photos_are_embedded_as_searches_are(training_set, cache_dir, tmp_path):
    towers = write_untrained(tmp_path, "image")
    export_query_encoder(MODEL, towers.query, tmp_path, cache_dir)
    found = class_photos_of(training_set, MODEL, towers.query, tmp_path, cache_dir)
    number = found.class_of["item-2-blue"]
    begin = sum(found.count_C[:number])
    of_class = sorted(
        (photo for photo in training_set.queries if photo.class_id == 2),
        key=lambda photo: (-photo.weight, photo.query_id),
    )
    embedded_ND = OnnxQueryEncoder(tmp_path).encode([Image.open(photo.image) for photo in of_class])
    np.testing.assert_allclose(found.rows_PD[begin : begin + len(of_class)], embedded_ND, atol=0.02)


def test_a_class_without_photos_has_none(cache_dir, tmp_path):
    training_set = tiny_training_set.write(tmp_path, unseen=frozenset([1]))
    towers = write_untrained(tmp_path / "version", "image")
    found = class_photos_of(training_set, MODEL, towers.query, tmp_path / "version", cache_dir)
    assert "item-1-green" not in found.class_of
    assert len(found.class_of) == len(found.count_C) == 5


def test_of_many_photos_those_with_the_best_labels_are_taken(training_set):
    training_set = TrainingSet(training_set.folder)
    best = next(photo for photo in training_set.queries if photo.query_id == "q23")
    doubted = [
        photo if photo is best else dataclasses.replace(photo, weight=0.4) for photo in training_set.queries
    ]
    training_set.__dict__["queries"] = doubted
    chosen = class_photo_features._chosen(training_set, most=1)
    assert len(chosen) == 6
    assert [best] in chosen.values()
