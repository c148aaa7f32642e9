"""The pretrained encoders by name: each family lives in a file of its own, here they are looked up."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from immr.errors import RecipeError
from immr.model.encoders import (
    efficientnet_lite,
    minilm,
    transformers_folder,
    transformers_image,
    transformers_text,
)
from immr.model.encoders.specs import ImageEncoderSpec, TextEncoderSpec
from immr.model.model_recipe import ModelRecipe
from immr.model.preprocessing import Preprocessing

_ANY_MODEL = "a `transformers` model, by its name (owner/model) or by the path of its folder"


def image_encoder_spec(name: str) -> ImageEncoderSpec:
    """The image encoder of that name.

    Raises:
        RecipeError: no such encoder, or its package is not installed.
    """
    if name in efficientnet_lite.NAMES:
        return efficientnet_lite.spec_of(name)
    if transformers_folder.is_named(name):
        return transformers_image.spec_of(name)
    known = ", ".join(efficientnet_lite.NAMES)
    raise RecipeError(f"there is no image encoder {name!r}; take one of: {known}; or {_ANY_MODEL}")


def text_encoder_spec(name: str) -> TextEncoderSpec:
    """The text encoder of that name.

    Raises:
        RecipeError: no such encoder, or its package is not installed.
    """
    if name == minilm.NAME:
        return minilm.spec()
    if transformers_folder.is_named(name):
        return transformers_text.spec_of(name)
    raise RecipeError(f"there is no text encoder {name!r}; take one of: {minilm.NAME}; or {_ANY_MODEL}")


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


def load_image_encoder(name: str, image_size_px: int, weights: Path | None = None) -> nn.Module:
    """A module from pixels (B, 3, S, S) to pooled (B, F) and patch features (B, P, F).

    Args:
        name: of the encoder.
        image_size_px: S.
        weights: its state after fine-tuning (`image_encoder.pt` of a version); else it is the pretrained one.
    """
    spec = image_encoder_spec(name)
    if name in efficientnet_lite.NAMES:
        encoder: nn.Module = efficientnet_lite.EfficientNetLite(spec, image_size_px)
    else:
        encoder = transformers_image.TransformersImage(spec, image_size_px)
    if weights:
        encoder.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return encoder


def load_text_encoder(name: str) -> transformers_text.TransformersText:
    """An encoder from texts to token features and their mask."""
    return transformers_text.TransformersText(text_encoder_spec(name))
