import dataclasses

import numpy as np
from PIL import Image

from immr.data.training_set import TrainingSet
from immr.model import class_photos
from immr.model.card import Card
from immr.model.class_photos import ClassPhotos, class_photos_of
from immr.model.documents import encode_documents, encode_pictures
from immr.model.query_encoder import OnnxQueryEncoder
from immr.train.export import export_query_encoder
from tests.support import tiny_training_set
from tests.support.untrained_version import write_untrained

MODEL = dataclasses.replace(tiny_training_set.MODEL, photos_per_class=32)


def test_photos_follow_the_rows_of_each_item_of_their_class():
    known = ClassPhotos(
        {"a": 1, "c": 1, "d": 0}, [1, 2], np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32)
    )
    rows_PD = np.array([[1, 0], [0, 1], [0, 1], [0, 1], [1, 0]], dtype=np.float32)
    added_PD, counts_N, photos_PD = known.added(["a", "b", "c", "d"], rows_PD, [2, 1, 1, 1])
    assert counts_N == [4, 1, 3, 2]
    np.testing.assert_array_equal(photos_PD[[2, 3, 6, 7, 9]], known.rows_PD[[1, 2, 1, 2, 0]])
    assert not photos_PD[[0, 1, 4, 5, 8]].any()
    assert known.number_of(["a", "b", "c", "d"]) == len(added_PD) - len(rows_PD)
    np.testing.assert_array_equal(added_PD[[0, 1, 4, 5, 8]], rows_PD)
    np.testing.assert_allclose(np.linalg.norm(added_PD, axis=1), 1, atol=1e-6)
    of_a_PD, of_c_PD = added_PD[2:4], added_PD[6:8]
    assert (of_a_PD @ [0, 1])[0] > 0.95 > (of_a_PD @ [0, 1])[1]
    assert (of_a_PD @ [1, 0] > of_c_PD @ [1, 0]).all(), "a photo's row leans towards its item's document"


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


def test_a_version_with_class_photos_finds_its_items_by_them(training_set, cache_dir, tmp_path):
    towers = write_untrained(tmp_path, "image")
    assert ClassPhotos.read(tmp_path) is None
    before = encode_pictures(tmp_path, training_set.items, cache_dir)
    found = class_photos_of(training_set, MODEL, towers.query, tmp_path, cache_dir)
    found.write(tmp_path)
    read = ClassPhotos.read(tmp_path)
    assert read and (read.class_of, read.count_C) == (found.class_of, found.count_C)
    np.testing.assert_allclose(read.rows_PD, found.rows_PD, rtol=1e-3, atol=1e-3)
    after = encode_pictures(tmp_path, training_set.items, cache_dir)
    assert sum(after.pictures_N) == sum(before.pictures_N) + len(training_set.queries)
    first_N = np.cumsum([0, *after.pictures_N[:-1]])
    np.testing.assert_array_equal(after.rows_PD[first_N], before.rows_PD)


def test_documents_then_lean_towards_their_picture_as_a_photo(training_set, cache_dir, tmp_path):
    towers = write_untrained(tmp_path, "image")
    export_query_encoder(MODEL, towers.query, tmp_path, cache_dir)
    items = [item for item in training_set.items if item.image]
    as_photos_ND = OnnxQueryEncoder(tmp_path).encode(
        [Image.open(item.image).convert("RGB") for item in items]
    )
    wordless = dataclasses.replace(items[0], image=str(tmp_path / "gone.png"))
    before_ND = encode_documents(tmp_path, [*items, wordless], cache_dir)
    card = Card.read(tmp_path)
    model = dataclasses.replace(card.model, photos_per_class=32)
    dataclasses.replace(card, model=model).write(tmp_path)
    after_ND = encode_documents(tmp_path, [*items, wordless], cache_dir)
    mean_ND = before_ND[:-1] + as_photos_ND
    expected_ND = mean_ND / np.linalg.norm(mean_ND, axis=1, keepdims=True)
    np.testing.assert_allclose(after_ND[:-1], expected_ND, atol=0.01)
    np.testing.assert_allclose(after_ND[-1], before_ND[-1], atol=1e-6)


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
    chosen = class_photos._chosen(training_set, most=1)
    assert len(chosen) == 6
    assert [best] in chosen.values()
