"""The pretrained encoders by name: each family lives in a file of its own, here they are looked up."""

from __future__ import annotations

from torch import nn

from immr.errors import RecipeError
from immr.model import efficientnet_lite, minilm
from immr.model.encoder_specs import ImageEncoderSpec, TextEncoderSpec
from immr.model.preprocessing import Preprocessing
from immr.model.recipe import ModelRecipe


def image_encoder_spec(name: str) -> ImageEncoderSpec:
    """The image encoder of that name.

    Raises:
        RecipeError: no such encoder, or its package is not installed.
    """
    if name in efficientnet_lite.NAMES:
        return efficientnet_lite.spec_of(name)
    known = ", ".join(efficientnet_lite.NAMES)
    raise RecipeError(f"there is no image encoder {name!r}; take one of: {known}")


def text_encoder_spec(name: str) -> TextEncoderSpec:
    """The text encoder of that name.

    Raises:
        RecipeError: no such encoder, or its package is not installed.
    """
    if name == minilm.NAME:
        return minilm.spec()
    raise RecipeError(f"there is no text encoder {name!r}; take one of: {minilm.NAME}")


def preprocessing_of(recipe: ModelRecipe) -> Preprocessing:
    """How this recipe's image encoder wants its pictures.

    Raises:
        RecipeError: an unknown encoder, or an image size that it does not divide into patches.
    """
    spec = image_encoder_spec(recipe.image_encoder)
    if recipe.image_size_px <= 0 or recipe.image_size_px % spec.stride:
        raise RecipeError(
            f"image_size_px is {recipe.image_size_px}, but {spec.name} needs a multiple of {spec.stride}: "
            f"take {max(1, round(recipe.image_size_px / spec.stride)) * spec.stride}"
        )
    return spec.preprocessing(recipe.image_size_px)


def load_image_encoder(name: str, image_size_px: int) -> nn.Module:
    """A module from pixels (B, 3, S, S) to pooled (B, F) and patch features (B, P, F)."""
    return efficientnet_lite.EfficientNetLite(image_encoder_spec(name), image_size_px)


def load_text_encoder(name: str) -> minilm.MiniLm:
    """An encoder from texts to token features and their mask."""
    return minilm.MiniLm(text_encoder_spec(name))
