import dataclasses

import numpy as np

from immr.model.class_photos import ClassPhotos
from immr.model.documents import encode_pictures
from immr.model.features.class_photo_features import class_photos_of
from tests.support import tiny_training_set
from tests.support.untrained_version import write_untrained

MODEL = dataclasses.replace(tiny_training_set.MODEL, photos_per_class=32)


def test_photos_follow_the_rows_of_each_item_of_their_class():
    known = ClassPhotos(
        {"a": 1, "c": 1, "d": 0}, [1, 2], np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32)
    )
    rows_PD = np.array([[1, 0], [0, 1], [0, 1], [0, 1], [1, 0]], dtype=np.float32)
    added_PD, counts_N, photo_P = known.added(["a", "b", "c", "d"], rows_PD, [2, 1, 1, 1])
    assert counts_N == [4, 1, 3, 2]
    assert photo_P.tolist() == [-1, -1, 1, 2, -1, -1, 1, 2, -1, 0]
    assert known.number_of(["a", "b", "c", "d"]) == len(added_PD) - len(rows_PD)
    np.testing.assert_array_equal(added_PD[[0, 1, 4, 5, 8]], rows_PD)
    np.testing.assert_allclose(np.linalg.norm(added_PD, axis=1), 1, atol=1e-6)
    of_a_PD, of_c_PD = added_PD[2:4], added_PD[6:8]
    assert (of_a_PD @ [0, 1])[0] > 0.95 > (of_a_PD @ [0, 1])[1]
    assert (of_a_PD @ [1, 0] > of_c_PD @ [1, 0]).all(), "a photo's row leans towards its item's document"


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
