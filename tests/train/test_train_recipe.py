from dataclasses import replace

import pytest

from immr.recipes import grocery, many_classes
from immr.train.train_recipe import TrainRecipe


def test_only_towers_that_are_trained_on_frozen_features_need_those_of_all_photos():
    assert grocery().train.frozen_photos is None
    assert many_classes().train.frozen_photos == 8192


def test_beyond_20_000_classes_a_step_takes_no_longer() -> None:
    recipe = TrainRecipe()
    assert recipe.rate_of(7_030) == recipe.rate_of(20_000) == 1.0
    assert recipe.rate_of(200_000) * 200_000 == pytest.approx(20_000)
    assert replace(recipe, negative_rate=1.0).rate_of(200_000) == 1.0
