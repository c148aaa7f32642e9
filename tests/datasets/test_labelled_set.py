import pytest

from immr.datasets.labelled_set import DatasetPhoto, LabelledSet
from immr.errors import DatasetError

PHOTOS = [
    DatasetPhoto("1.jpg", "apple", "train"),
    DatasetPhoto("2.jpg", "pear", "val", unseen=True),
    DatasetPhoto("3.jpg", "apple", "train"),
]
FRUIT = LabelledSet("fruit", [], PHOTOS)


def test_a_split_keeps_the_order() -> None:
    assert [photo.image for photo in FRUIT.split("train")] == ["1.jpg", "3.jpg"]
    assert FRUIT.unseen_items == {"pear"}


def test_a_missing_split_is_an_error_that_lists_the_others() -> None:
    with pytest.raises(DatasetError, match="fruit has no split 'test': choose one of train, val"):
        FRUIT.split("test")
