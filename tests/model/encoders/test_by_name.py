import pytest

from immr.errors import RecipeError
from immr.model.encoders.by_name import image_encoder_spec, preprocessing_of, text_encoder_spec
from immr.model.model_recipe import ModelRecipe


def test_unknown_names_and_sizes_are_refused_with_the_choices():
    with pytest.raises(RecipeError, match="choose one of: efficientnet-lite0"):
        image_encoder_spec("resnet")
    with pytest.raises(RecipeError, match="choose one of: minilm"):
        text_encoder_spec("bert")
    with pytest.raises(RecipeError, match="multiple of 32: use 96"):
        preprocessing_of(ModelRecipe(image_size_px=100))
