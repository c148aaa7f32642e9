"""Cuts a region out of a picture, widened to a square: the encoders see squares."""

from __future__ import annotations

from PIL import Image

from immr.types import Region


def cropped(image: Image.Image, region: Region) -> Image.Image:
    """The region with its shorter side widened to the longer one, as far as the picture reaches.

    The region stays in the middle unless an edge of the picture is near; at least one pixel remains.
    """
    width, height = image.size
    side = max(region.width * width, region.height * height)
    left, right = _span((region.x + region.width / 2) * width, side, width)
    top, bottom = _span((region.y + region.height / 2) * height, side, height)
    return image.crop((left, top, right, bottom))


def _span(middle: float, side: float, length: int) -> tuple[int, int]:
    """Pixels from and to; a span that would leave the picture is moved inside, or cut if it is too long."""
    pixels = min(max(round(side), 1), length)
    start = min(max(round(middle - pixels / 2), 0), length - pixels)
    return start, start + pixels
