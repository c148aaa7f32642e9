from pathlib import Path

import numpy as np
import pytest

from immr.data.pictures.picture_files import decode, read
from immr.datasets.synthetic import SyntheticRecipe, appearances, load
from immr.errors import DatasetError

SMALL = SyntheticRecipe(seed=3, items=12, train_photos=4, val_photos=2, side_px=64)


def pixels(uri: str) -> np.ndarray:  # type: ignore[type-arg]
    return np.asarray(decode(read(uri)), dtype=np.float32)


def test_the_set_follows_its_recipe(tmp_path: Path) -> None:
    labelled = load(SMALL, tmp_path)
    assert len(labelled.items) == 12
    assert (len(labelled.split("train")), len(labelled.split("val"))) == (48, 24)
    assert {photo.item_id for photo in labelled.photos} == {item.item_id for item in labelled.items}
    assert pixels(labelled.photos[0].image).shape == (64, 64, 3)
    words = labelled.items[0].title.split()
    assert all(word.lower() in labelled.items[0].description.lower() for word in words)
    assert len({item.description for item in labelled.items}) == 12


def test_the_same_seed_gives_the_same_pictures(tmp_path: Path) -> None:
    one, two = load(SMALL, tmp_path / "a"), load(SMALL, tmp_path / "b")
    assert all(read(a.image) == read(b.image) for a, b in zip(one.photos, two.photos, strict=True))
    other = load(SyntheticRecipe(seed=4, items=12, train_photos=4, val_photos=2, side_px=64), tmp_path / "a")
    assert read(one.photos[0].image) != read(other.photos[0].image)


def test_a_set_is_rendered_once(tmp_path: Path) -> None:
    first = load(SMALL, tmp_path)
    before = Path(first.photos[0].image).stat().st_mtime_ns
    assert Path(load(SMALL, tmp_path).photos[0].image).stat().st_mtime_ns == before


def test_photos_can_be_recognised(tmp_path: Path) -> None:
    """Even the mean colour of the middle, with no learning, is far better than chance (1 in 12)."""
    labelled = load(SMALL, tmp_path)
    middle = slice(20, 44)

    def colour(uri: str) -> np.ndarray:  # type: ignore[type-arg]
        mean = pixels(uri)[middle, middle].mean(axis=(0, 1))
        return np.asarray(mean / np.linalg.norm(mean))

    documents = np.stack([colour(item.image) for item in labelled.items])
    right = [
        labelled.items[int((documents @ colour(photo.image)).argmax())].item_id == photo.item_id
        for photo in labelled.photos
    ]
    assert np.mean(right) > 0.3


def test_items_of_large_sets_are_distinct() -> None:
    everything = appearances(SyntheticRecipe(items=5000))
    assert len(set(everything)) == 5000
    assert len({(look.shape, look.colour, look.pattern) for look in everything[:600]}) == 600


def test_an_empty_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="at least one item"):
        load(SyntheticRecipe(items=0), tmp_path)
