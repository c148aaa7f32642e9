"""Pretrained encoders by name: finds the family that a name or folder belongs to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from immr.errors import RecipeError
from immr.model.encoders import (
    efficientnet_lite,
    minilm,
    model_folder,
    open_clip_image,
    timm_image,
    transformers_image,
    transformers_text,
)
from immr.model.encoders.specs import ImageEncoderSpec, TextEncoderSpec
from immr.model.model_recipe import ModelRecipe
from immr.model.preprocessing import Preprocessing

_PUBLISHED_IMAGE = (
    "a transformers, timm or open_clip model by name (owner/model) or by the path of its folder"
)
_PUBLISHED_TEXT = "a transformers model by name (owner/model) or by the path of its folder"


class ImageFamily(Protocol):
    """A module with one family of image encoders."""

    def spec_of(self, name: str) -> ImageEncoderSpec:
        """The encoder's spec, without reading its weights."""

    def load(self, spec: ImageEncoderSpec, image_size_px: int) -> nn.Module:
        """The pretrained encoder, frozen, with `stages()`."""


def image_encoder_spec(name: str) -> ImageEncoderSpec:
    """The spec of an image encoder.

    Raises:
        RecipeError: the encoder is unknown, or its package is not installed.
    """
    return _image_family(name).spec_of(name)


def text_encoder_spec(name: str) -> TextEncoderSpec:
    """The spec of a text encoder.

    Raises:
        RecipeError: the encoder is unknown, or its package is not installed.
    """
    if name == minilm.NAME:
        return minilm.spec()
    if model_folder.is_named(name):
        return transformers_text.spec_of(name)
    raise RecipeError(
        f"the text encoder {name!r} is unknown; choose one of: {minilm.NAME}; or {_PUBLISHED_TEXT}"
    )


def preprocessing_of(recipe: ModelRecipe) -> Preprocessing:
    """Preprocessing for the recipe's image encoder.

    Raises:
        RecipeError: the encoder is unknown, or the image size is not a multiple of its patch size.
    """
    spec = image_encoder_spec(recipe.image_encoder)
    if recipe.image_size_px <= 0 or recipe.image_size_px % spec.stride:
        raise RecipeError(
            f"image_size_px is {recipe.image_size_px}, but {spec.name} needs a multiple of {spec.stride}: "
            f"use {max(1, round(recipe.image_size_px / spec.stride)) * spec.stride}"
        )
    return replace(spec.preprocessing(recipe.image_size_px), framing=recipe.framing)


def check_encoders(recipe: ModelRecipe, fine_tune_px: int | None = None) -> None:
    """Check, before a step works for hours, that the recipe's encoders exist and take pictures of its size.

    Args:
        recipe: names the encoders.
        fine_tune_px: the side of pictures in fine-tuning, if there is any.

    Raises:
        RecipeError: an encoder is unknown, or a size is not a multiple of its patch size.
    """
    preprocessing_of(recipe)
    if recipe.fusion != "image":
        text_encoder_spec(recipe.text_encoder)
    if fine_tune_px is not None:
        try:
            preprocessing_of(replace(recipe, image_size_px=fine_tune_px))
        except RecipeError as error:
            raise RecipeError(f"in train.fine_tune, {error}") from error


def load_image_encoder(name: str, image_size_px: int, weights: Path | None = None) -> nn.Module:
    """A frozen module from pixels (B, 3, S, S) to pooled (B, F) and patch features (B, P, F).

    Args:
        name: of the encoder.
        image_size_px: S.
        weights: state after fine-tuning (a version's `image_encoder.pt`); pretrained without.
    """
    family = _image_family(name)
    encoder = family.load(family.spec_of(name), image_size_px)
    if weights:
        encoder.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return encoder


def load_text_encoder(name: str) -> transformers_text.TransformersText:
    """A frozen encoder from texts to token features and their mask."""
    return transformers_text.TransformersText(text_encoder_spec(name))


def _image_family(name: str) -> ImageFamily:
    if name in efficientnet_lite.NAMES:
        return efficientnet_lite
    if not model_folder.is_named(name):
        known = ", ".join(efficientnet_lite.NAMES)
        raise RecipeError(
            f"the image encoder {name!r} is unknown; choose one of: {known}; or {_PUBLISHED_IMAGE}"
        )
    folder = model_folder.folder_of(name)
    if open_clip_image.is_model(folder):
        return open_clip_image
    return timm_image if timm_image.is_model(folder) else transformers_image
