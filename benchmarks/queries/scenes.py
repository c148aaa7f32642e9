"""Pictures of several things at random places, drawn from the photos of two data sets, with the true boxes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from immr.datasets.labelled_set import DatasetPhoto
from immr.types import Region

WIDTH_PX, HEIGHT_PX = 800, 600
SMALLEST_PX, LARGEST_PX = 170, 330
_MARGIN_PX = 12
_TRIES = 200


@dataclass(frozen=True)
class Thing:
    """One of the photos in a scene, and where it is."""

    item_id: str
    dataset: str
    box: Region


@dataclass(frozen=True)
class Scene:
    """A JPEG and the things on it."""

    content: bytes
    things: tuple[Thing, ...]


def scene(photos: Sequence[tuple[str, DatasetPhoto]], behind: str, rng: np.random.Generator) -> Scene:
    """The photos at random places and sizes without overlap, before one of three backgrounds.

    Args:
        photos: the data set's name and a photo of it; as many as fit are drawn.
        behind: a photo that the third kind of background shows out of focus.
        rng: decides everything that is random.
    """
    picture = _background(behind, rng)
    things: list[Thing] = []
    taken: list[tuple[int, int, int, int]] = []
    for dataset, photo in photos:
        place = _free_place(taken, rng)
        if place is None:
            break
        left, top, right, bottom = place
        with Image.open(photo.image) as image:
            picture.paste(ImageOps.fit(image.convert("RGB"), (right - left, bottom - top)), (left, top))
        taken.append(place)
        box = Region(left / WIDTH_PX, top / HEIGHT_PX, (right - left) / WIDTH_PX, (bottom - top) / HEIGHT_PX)
        things.append(Thing(photo.item_id, dataset, box))
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=90)
    return Scene(content.getvalue(), tuple(things))


def _free_place(
    taken: Sequence[tuple[int, int, int, int]], rng: np.random.Generator
) -> tuple[int, int, int, int] | None:
    for _ in range(_TRIES):
        side = int(rng.integers(SMALLEST_PX, LARGEST_PX))
        left, top = int(rng.integers(WIDTH_PX - side)), int(rng.integers(HEIGHT_PX - side))
        place = (left, top, left + side, top + side)
        if all(_apart(place, other) for other in taken):
            return place
    return None


def _apart(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return (
        one[2] + _MARGIN_PX <= other[0]
        or other[2] + _MARGIN_PX <= one[0]
        or one[3] + _MARGIN_PX <= other[1]
        or other[3] + _MARGIN_PX <= one[1]
    )


def _background(behind: str, rng: np.random.Generator) -> Image.Image:
    """An even colour under uneven light, coarse noise, or a photo out of focus."""
    kind = int(rng.integers(3))
    if kind == 2:
        with Image.open(behind) as image:
            photo = ImageOps.fit(image.convert("RGB"), (WIDTH_PX, HEIGHT_PX))
        return photo.filter(ImageFilter.GaussianBlur(25))
    colour = rng.integers(40, 216, 3)
    if kind == 0:
        light = np.linspace(0.75, 1.2, WIDTH_PX)[None, :, None] * np.ones((HEIGHT_PX, 1, 1))
        return Image.fromarray(np.clip(colour * light, 0, 255).astype(np.uint8))
    coarse = np.clip(colour + rng.normal(0, 25, (HEIGHT_PX // 20, WIDTH_PX // 20, 3)), 0, 255)
    return Image.fromarray(coarse.astype(np.uint8)).resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.BICUBIC)
