import dataclasses

import pytest
import torch

from immr.errors import ImageError, TrainingError
from immr.model.features.image_features import ImageFeatures
from immr.model.features.views import view_names
from immr.train.inputs import features
from immr.train.inputs.features import TrainingArrays, training_arrays
from immr.train.world import World
from tests.support import tiny_training_set
from tests.support.tiny_training_set import MODEL


@pytest.fixture
def training_set(tmp_path):
    return tiny_training_set.write(tmp_path, photos_per_class=2)


def arrays(training_set, cache_dir) -> TrainingArrays:
    return training_arrays(training_set, MODEL, 1, cache_dir, World())


def test_pictures_whose_features_are_known_are_not_read_again(training_set, cache_dir):
    first = arrays(training_set, cache_dir)
    for path in training_set.folder.glob("*.[jp][pn]g"):
        path.unlink()
    again = arrays(training_set, cache_dir)
    torch.testing.assert_close(again.photos_NVF.in_view(0), first.photos_NVF.in_view(0), rtol=0, atol=0)
    rows_N, view_N = torch.arange(6), torch.zeros(6, dtype=torch.int64)
    mine, its = (each.documents.batch(rows_N, view_N) for each in (again, first))
    torch.testing.assert_close(dataclasses.asdict(mine), dataclasses.asdict(its), rtol=0, atol=0)
    assert again.documents.has_picture_N.tolist() == [True] * 5 + [False]


def test_on_a_gpu_the_encoder_is_not_exported_before_training(training_set, cache_dir, monkeypatch):
    exported = []
    monkeypatch.setattr(features, "encoder_graph", lambda *_: exported.append(1))
    for device in ("cpu", "cuda:0"):
        training_arrays(training_set, MODEL, 1, cache_dir, World(device=device))
    assert exported == [1]


def test_a_training_set_of_an_older_release_gives_the_same(training_set, cache_dir):
    first = arrays(training_set, cache_dir)
    tiny_training_set.without_hashes(training_set)
    again = arrays(training_set, cache_dir)
    assert again.picture_hashes == first.picture_hashes
    torch.testing.assert_close(again.photos_NVF.in_view(0), first.photos_NVF.in_view(0), rtol=0, atol=0)


def test_a_photo_that_was_replaced_since_it_was_governed_is_refused(training_set, cache_dir, tmp_path):
    arrays(training_set, cache_dir)
    empty_cache = tmp_path / "cache"
    empty_cache.mkdir()
    (empty_cache / "encoders").symlink_to(cache_dir / "encoders")
    photo, other = (training_set.folder / f"photo-{name}-0.jpg" for name in ("red", "blue"))
    photo.write_bytes(other.read_bytes() + bytes(1))
    with pytest.raises(ImageError, match="changed since `immr govern` read them"):
        arrays(training_set, empty_cache)


def test_a_sample_of_photos_is_spread_evenly_and_only_its_features_are_computed(training_set, tmp_path):
    every = training_arrays(training_set, MODEL, 1, tmp_path / "every", World())
    some = training_arrays(training_set, MODEL, 1, tmp_path / "some", World(), sample=4)
    torch.testing.assert_close(some.photos_NVF.in_view(0), every.photos_NVF.in_view(0)[::3], rtol=0, atol=0)
    assert some.query_ids == every.query_ids
    computed = ImageFeatures(MODEL, tmp_path / "some").known(
        list(every.picture_hashes.values()), view_names(1)
    )
    assert len(computed) == 4 + 5  # and the documents' pictures


def test_a_training_set_of_one_class_is_refused(tmp_path, cache_dir):
    """It was trained without a word, on a loss of zero."""
    one_class = tiny_training_set.write(tmp_path, unseen=frozenset(range(1, 6)))
    with pytest.raises(TrainingError, match=r"all items .* are in one class.*add other items"):
        arrays(one_class, cache_dir)


def test_photos_of_one_class_are_reported(tmp_path, cache_dir, caplog):
    training_set = tiny_training_set.write(tmp_path, photos_per_class=1)
    photos = training_set.queries
    training_set.__dict__["queries"] = photos[:1]
    arrays(training_set, cache_dir)
    training_set.__dict__["queries"] = photos
    assert "all photos show the same class" in caplog.text
    caplog.clear()
    arrays(training_set, cache_dir)
    assert not caplog.text


@pytest.mark.parametrize(("photos", "classes", "few"), [(59, 6, True), (60, 6, False), (2_640, 81, False)])
def test_shops_with_fewer_than_ten_photos_per_class_have_few(training_set, cache_dir, photos, classes, few):
    read = arrays(training_set, cache_dir)
    shop = dataclasses.replace(read, photo_classes_N=torch.zeros(photos), class_count=classes)
    assert shop.has_few_photos is few
