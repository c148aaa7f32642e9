from datetime import UTC, datetime

import numpy as np
import pytest

from immr.data.training_set import TrainingSet
from immr.errors import RecipeError
from immr.evaluation.slices import by_category, by_frequency, check_names
from immr.types import Item

NOW = datetime(2025, 1, 1, tzinfo=UTC)


def test_categories_are_those_of_the_right_item() -> None:
    items = [
        Item("a", "", "", "Fruit/Apple", "", 1.0, NOW),
        Item("b", "", "", "Fruit/Pear", "", 1.0, NOW),
        Item("c", "", "", "Milk", "", 1.0, NOW),
    ]
    masks = by_category(["a", "c", "b", "a"], items)
    assert {name: mask.tolist() for name, mask in masks.items()} == {
        "Fruit": [True, False, True, True],
        "Milk": [False, True, False, False],
    }


def test_every_query_is_in_one_slice_of_frequency() -> None:
    counts = {0: 0, 1: 1, 2: 5, 3: 5, 4: 100}
    masks = by_frequency(np.array([0, 1, 2, 3, 4, 9]), counts)
    assert {name: np.flatnonzero(mask).tolist() for name, mask in masks.items()} == {
        "head": [4],
        "middle": [2, 3],
        "tail": [1],
        "unseen": [0, 5],
    }


@pytest.mark.parametrize("classes", [3, 6, 9, 12, 30])
def test_head_and_tail_have_a_third_of_the_classes_each(classes: int) -> None:
    masks = by_frequency(np.arange(classes), {number: number + 1 for number in range(classes)})
    assert {name: int(mask.sum()) for name, mask in masks.items()} == dict.fromkeys(
        ("head", "middle", "tail"), classes // 3
    )


def test_head_and_tail_are_mirror_images() -> None:
    """Turning many photos into few turns head into tail, whatever the number of classes."""
    for classes in range(1, 12):
        counts = {number: 1 + number for number in range(classes)}
        masks = by_frequency(np.arange(classes), counts)
        mirrored = by_frequency(np.arange(classes)[::-1], counts)
        nothing = np.zeros(classes, dtype=bool)
        assert masks.get("head", nothing).tolist() == mirrored.get("tail", nothing).tolist()


def test_classes_with_equal_counts_stay_together() -> None:
    masks = by_frequency(np.arange(6), dict.fromkeys(range(6), 7))
    assert list(masks) == ["middle"]
    assert list(by_frequency(np.array([1, 2]), {})) == ["unseen"]


def test_a_name_that_is_no_slice_is_refused_with_the_known_ones(training_set: TrainingSet) -> None:
    check_names(["Things", "unseen"], training_set)
    check_names([], training_set)
    with pytest.raises(RecipeError, match=r"'Thing'.*mean 'Things'.*category \(Things\), or head, middle"):
        check_names(["Thing"], training_set)
