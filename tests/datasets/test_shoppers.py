from datetime import UTC, datetime

import numpy as np
import pytest

from immr.datasets.shoppers import Catalogue, as_numbers, behaviour, ranked_lists, searched_photos
from immr.datasets.simulation_recipe import SimulationRecipe
from immr.types import Item

NOW = datetime(2025, 1, 1, tzinfo=UTC)
ITEMS = [Item(f"i{n:02}", "", "", f"category-{n % 4}", "", 1.0, NOW) for n in range(40)]
RECIPE = SimulationRecipe(shown=8)
QUERIES = 4000


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def catalogue(rng: np.random.Generator) -> Catalogue:
    return as_numbers(ITEMS, [], RECIPE, rng)


def test_a_category_lists_its_own_items(catalogue: Catalogue) -> None:
    for number, item in enumerate(ITEMS):
        start, size = catalogue.start[number], catalogue.size[number]
        own = catalogue.by_category[start : start + size]
        assert {ITEMS[other].category for other in own} == {item.category}
        assert size == 10


def test_twins_refer_to_each_other(rng: np.random.Generator) -> None:
    catalogue = as_numbers(ITEMS, ["i00", "i05"], RECIPE, rng)
    assert (catalogue.twin[0], catalogue.twin[5], catalogue.twin[38], catalogue.twin[39]) == (38, 39, 0, 5)
    assert catalogue.twin[1] == -1


def test_every_photo_is_searched_at_least_once(catalogue: Catalogue, rng: np.random.Generator) -> None:
    recipe = SimulationRecipe(queries_per_photo=2.5)
    asked = searched_photos(np.arange(40), catalogue, recipe, rng)
    assert len(asked) == 100 and set(asked.tolist()) == set(range(40))


def test_lists_show_different_items_and_mostly_the_right_one(
    catalogue: Catalogue, rng: np.random.Generator
) -> None:
    right = rng.integers(0, 40, QUERIES)
    lists = ranked_lists(right, catalogue, RECIPE, rng)
    assert lists.shape == (QUERIES, 8)
    assert all(len({*row[row >= 0]}) == (row >= 0).sum() for row in lists)
    assert (lists == right[:, None]).any(axis=1).mean() == pytest.approx(RECIPE.present, abs=0.02)


@pytest.mark.parametrize("wrong_clicks", [0.1, 0.4])
def test_the_share_of_wrong_clicks_is_that_of_the_recipe(
    catalogue: Catalogue, rng: np.random.Generator, wrong_clicks: float
) -> None:
    recipe = SimulationRecipe(wrong_clicks=wrong_clicks)
    right = rng.integers(0, 40, QUERIES)
    lists = ranked_lists(right, catalogue, recipe, rng)
    clicked, ordered = behaviour(lists, right, catalogue, recipe, rng)
    assert (clicked & (lists != right[:, None])).sum() / clicked.sum() == pytest.approx(
        wrong_clicks, abs=0.03
    )
    assert not (ordered & ~clicked).any()
