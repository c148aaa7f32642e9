"""Changed views of a picture, each with its own features. Deterministic for each picture."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageOps

from immr.errors import RecipeError
from immr.model.framing import framed
from immr.model.model_recipe import ModelRecipe

_FIXED = ("fit", "flip")
_OF_DRAWINGS = ("fit", "turn+8", "turn-8")
_CROP_AREA = (0.4, 1.0)  # share of the picture
_CROP_ASPECT = (3 / 4, 4 / 3)


def view_names(count: int) -> list[str]:
    """The first `count` views: the picture as in serving, its mirror image, then random crops.

    Raises:
        RecipeError: `count` is below 1.
    """
    if count < 1:
        raise RecipeError(
            f"views is {count}, but training needs at least the picture itself: choose 1 or more"
        )
    return [*_FIXED, *(f"crop-{number}" for number in range(1, count - len(_FIXED) + 1))][:count]


def document_view_names(recipe: ModelRecipe) -> list[str]:
    """The views of a catalogue picture that a document averages: of a drawing, turned by 8° to either side."""
    if recipe.framing == "drawing":
        return list(_OF_DRAWINGS[: recipe.document_views])
    return view_names(recipe.document_views)


def take_view(image: Image.Image, name: str, image_hash: str, size_px: int) -> Image.Image:
    """One view of the picture; `image_hash` (hex) seeds the crops, `size_px` is their side."""
    if name == "fit":
        return image
    if name == "flip":
        return ImageOps.mirror(image)
    if name.startswith("turn"):
        degrees = float(name.removeprefix("turn"))
        return framed(image, 2 * size_px).rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    generator = np.random.default_rng([int(image_hash[:16], 16), int(name.removeprefix("crop-"))])
    box = _crop_box(image.width, image.height, generator)
    square = image.resize((size_px, size_px), Image.Resampling.BICUBIC, box=box)
    return ImageOps.mirror(square) if generator.random() < 0.5 else square


def _crop_box(width: int, height: int, generator: np.random.Generator) -> tuple[int, int, int, int]:
    area = generator.uniform(*_CROP_AREA) * width * height
    aspect = math.exp(generator.uniform(*np.log(_CROP_ASPECT)))
    crop_width = max(1, min(width, round(math.sqrt(area * aspect))))
    crop_height = max(1, min(height, round(math.sqrt(area / aspect))))
    left = int(generator.integers(0, width - crop_width + 1))
    top = int(generator.integers(0, height - crop_height + 1))
    return left, top, left + crop_width, top + crop_height
