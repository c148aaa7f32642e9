import pytest

from immr import recipes
from immr.errors import RecipeError


def test_a_recipe_is_called_what_it_is_found_by() -> None:
    for name in recipes.RECIPES:
        assert recipes.by_name(name).name == name


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(RecipeError, match="concept, demo, grocery, image_only"):
        recipes.by_name("concpet")


def test_variations_leave_the_rest_alone() -> None:
    recipe = recipes.concept()
    varied = recipes.with_gate_margin(recipes.with_processes(recipe, 3), 0.01)
    assert (varied.train.processes, varied.gate.margin) == (3, 0.01)
    assert (varied.model, varied.governance) == (recipe.model, recipe.governance)


def test_nothing_is_trained_by_no_process() -> None:
    with pytest.raises(RecipeError, match="take 1 or more"):
        recipes.with_processes(recipes.concept(), 0)
