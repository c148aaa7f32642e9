"""How pictures may change without becoming another thing; photos and catalogue differ. (ours)

Shapes: H, W a picture as it is, S the side of the square that comes out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from immr.model.features.pixels import ByteArray
from immr.types import FloatArray

_TURNED_SHARE = 0.5
_ERASED_SIDE = (0.15, 0.45)  # share of S
_GREY = (128, 128, 128)


@dataclass(frozen=True)
class Augmentation:
    """One domain's changes, each drawn anew for every picture and step."""

    smallest_area: float  # a crop's share of the picture, at least
    largest_turn_deg: float  # to either side
    colour: (
        float  # brightness, contrast and saturation change by at most this share, the tint by a third of it
    )
    erased: float  # share of pictures that lose a rectangle
    aspect: float = 4 / 3  # a crop's sides differ by at most this factor

    def apply(self, pixels_HWC: ByteArray, side_px: int, rng: np.random.Generator) -> ByteArray:
        """(S, S, 3): a crop, perhaps mirrored and turned, in another light, perhaps behind something."""
        square = self._crop(Image.fromarray(pixels_HWC), side_px, rng)
        if rng.random() < 0.5:
            square = square[:, ::-1]
        changed = recoloured(square, *_colours(self.colour, rng)) if self.colour else square.copy()
        if rng.random() < self.erased:
            _erase(changed, rng)
        return changed

    def _crop(self, picture: Image.Image, side_px: int, rng: np.random.Generator) -> ByteArray:
        area = rng.uniform(self.smallest_area, 1.0) * picture.width * picture.height
        aspect = self.aspect ** rng.uniform(-1, 1)
        width = min(picture.width, math.sqrt(area * aspect))
        height = min(picture.height, math.sqrt(area / aspect))
        left, top = rng.uniform(0, picture.width - width), rng.uniform(0, picture.height - height)
        if self.largest_turn_deg and rng.random() < _TURNED_SHARE:
            picture = picture.rotate(
                rng.uniform(-self.largest_turn_deg, self.largest_turn_deg),
                Image.Resampling.BILINEAR,
                center=(left + width / 2, top + height / 2),
                fillcolor=_GREY,
            )
        box = (left, top, left + width, top + height)
        return np.asarray(picture.resize((side_px, side_px), Image.Resampling.BICUBIC, box=box))


PHOTO = Augmentation(smallest_area=0.35, largest_turn_deg=8.0, colour=0.3, erased=0.25)
"""A shopper's photo: hand-held, in any light, things in front of it."""

CATALOGUE = Augmentation(smallest_area=0.5, largest_turn_deg=8.0, colour=0.3, erased=0.0)
"""A catalogue picture: there are few, so they change much, but nothing is ever in front of them."""


def recoloured(pixels_HWC: ByteArray, matrix_33: FloatArray, contrast: float) -> ByteArray:
    """Each pixel through the matrix, after its distance to the picture's mean colour was scaled."""
    mean_3 = pixels_HWC.mean((0, 1), dtype=np.float32)
    offset_3 = (1 - contrast) * mean_3 @ matrix_33
    changed: ByteArray = (pixels_HWC @ (contrast * matrix_33) + offset_3).clip(0, 255).astype(np.uint8)
    return changed


def _colours(amount: float, rng: np.random.Generator) -> tuple[FloatArray, float]:
    """Brightness, saturation and tint as one matrix, and the contrast."""
    brightness, saturation, contrast = 1 + rng.uniform(-amount, amount, 3)
    tint_3 = 1 + rng.uniform(-amount, amount, 3) / 3
    saturate_33 = saturation * np.eye(3) + (1 - saturation) * np.full((3, 3), 1 / 3)
    return (brightness * saturate_33 * tint_3).astype(np.float32), float(contrast)


def _erase(pixels_SSC: ByteArray, rng: np.random.Generator) -> None:
    side = len(pixels_SSC)
    height, width = (max(1, round(side * share)) for share in rng.uniform(*_ERASED_SIDE, 2))
    top, left = rng.integers(0, side - height + 1), rng.integers(0, side - width + 1)
    pixels_SSC[top : top + height, left : left + width] = rng.integers(0, 256, 3)
