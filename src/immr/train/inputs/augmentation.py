"""Random changes after which a picture still shows the same thing; the ranges are ours.

Shapes: H, W a picture's own size, S the side of the resulting square.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from immr.train.inputs.random_numbers import RandomNumbers
from immr.types import ByteArray, FloatArray

_TURNED_SHARE = 0.5
_ERASED_SIDE = (0.15, 0.45)  # share of S
GREY = (128, 128, 128)
_STROKES = (ImageFilter.MaxFilter(3), ImageFilter.GaussianBlur(1.0))


@dataclass(frozen=True)
class Augmentation:
    """The changes for one domain, drawn for every picture in every step."""

    smallest_area: float  # of a crop, as a share of the picture
    largest_turn_deg: float  # to either side
    colour: (
        float  # brightness, contrast and saturation change by at most this share, the tint by a third of it
    )
    erased: float  # share of pictures in which a rectangle is hidden
    aspect: float = 4 / 3  # a crop's sides differ by at most this factor
    mirrored: float = 0.5  # share of pictures
    farthest: float = 1.0  # a picture is shrunk by up to this factor, on paper of its corner's colour
    stroke: float = 0.0  # share of pictures whose bright lines become thicker or softer

    def apply(self, pixels_HWC: ByteArray, side_px: int, dice: RandomNumbers) -> ByteArray:
        """A changed picture, (S, S, 3)."""
        height, width = pixels_HWC.shape[:2]
        return self.drawn(width, height, side_px, dice).applied(pixels_HWC, side_px)

    def drawn(self, width: int, height: int, side_px: int, dice: RandomNumbers) -> DrawnChange:
        """A change for a picture of that size."""
        border, stroke = 0, None
        if self.farthest > 1.0:
            border = round((dice.between(1.0, self.farthest) - 1) / 2 * min(width, height))
        if dice.happens(self.stroke):
            stroke = dice.below(len(_STROKES))
        box, turn_deg = self._crop(width + 2 * border, height + 2 * border, dice)
        return DrawnChange(
            border=border,
            stroke=stroke,
            box=box,
            turn_deg=turn_deg,
            on_paper=self.farthest > 1.0,
            mirrored=dice.happens(self.mirrored),
            colours=_colours(self.colour, dice) if self.colour else None,
            erased=_erased(side_px, dice) if dice.happens(self.erased) else None,
        )

    def _crop(
        self, whole_width: int, whole_height: int, dice: RandomNumbers
    ) -> tuple[tuple[float, float, float, float], float]:
        area = dice.between(self.smallest_area, 1.0) * whole_width * whole_height
        aspect = self.aspect ** dice.between(-1, 1)
        width = min(whole_width, math.sqrt(area * aspect))
        height = min(whole_height, math.sqrt(area / aspect))
        left, top = dice.between(0, whole_width - width), dice.between(0, whole_height - height)
        turn_deg = 0.0
        if self.largest_turn_deg and dice.happens(_TURNED_SHARE):
            turn_deg = dice.between(-self.largest_turn_deg, self.largest_turn_deg)
        return (left, top, left + width, top + height), turn_deg


class Colours(NamedTuple):
    """A change of colours: see `recoloured`."""

    matrix_33: FloatArray
    contrast: float


class Rectangle(NamedTuple):
    """What is erased, in pixels of the resulting square."""

    top: int
    left: int
    height: int
    width: int
    colour: tuple[int, int, int]


class DrawnChange(NamedTuple):
    """The numbers drawn for one picture, in the order in which they are applied."""

    border: int  # of paper, in pixels at each edge
    stroke: int | None  # of `_STROKES`
    box: tuple[float, float, float, float]  # left, top, right and bottom of the crop, border included
    turn_deg: float  # around the crop's centre
    on_paper: bool  # turning uncovers paper instead of grey
    mirrored: bool
    colours: Colours | None
    erased: Rectangle | None

    def applied(self, pixels_HWC: ByteArray, side_px: int) -> ByteArray:
        """The changed picture, (S, S, 3)."""
        picture = Image.fromarray(pixels_HWC)
        if self.border:
            picture = ImageOps.expand(picture, self.border, _corner(picture))
        if self.stroke is not None:
            picture = picture.filter(_STROKES[self.stroke])
        if self.turn_deg:
            left, top, right, bottom = self.box
            picture = picture.rotate(
                self.turn_deg,
                Image.Resampling.BILINEAR,
                center=(left + (right - left) / 2, top + (bottom - top) / 2),
                fillcolor=_corner(picture) if self.on_paper else GREY,
            )
        square = np.asarray(picture.resize((side_px, side_px), Image.Resampling.BICUBIC, box=self.box))
        if self.mirrored:
            square = square[:, ::-1]
        changed = recoloured(square, *self.colours) if self.colours else square.copy()
        if self.erased:
            top, left, height, width, colour = self.erased
            changed[top : top + height, left : left + width] = colour
        return changed


class DomainAugmentations(NamedTuple):
    """How the two kinds of pictures in a training set change."""

    photo: Augmentation
    catalogue: Augmentation


_DRAWING = Augmentation(
    smallest_area=0.75,
    largest_turn_deg=14.0,
    colour=0.15,
    erased=0.0,
    aspect=1.15,
    mirrored=0.0,
    farthest=1.2,
    stroke=0.3,
)

AUGMENTATIONS = {
    "photos": DomainAugmentations(
        # a shopper's photo: hand-held, in any light, with things in front
        photo=Augmentation(smallest_area=0.35, largest_turn_deg=8.0, colour=0.3, erased=0.25),
        # few pictures, so strong changes, but nothing is ever in front of the item
        catalogue=Augmentation(smallest_area=0.5, largest_turn_deg=8.0, colour=0.3, erased=0.0),
    ),
    # the ink of framed drawings; left and right differ in meaning
    "drawings": DomainAugmentations(photo=_DRAWING, catalogue=_DRAWING),
}


def recoloured(pixels_HWC: ByteArray, matrix_33: FloatArray, contrast: float) -> ByteArray:
    """Scale each pixel's distance to the mean colour by `contrast`, then apply the matrix."""
    mean_3 = pixels_HWC.mean((0, 1), dtype=np.float32)
    offset_3 = (1 - contrast) * mean_3 @ matrix_33
    changed: ByteArray = (pixels_HWC @ (contrast * matrix_33) + offset_3).clip(0, 255).astype(np.uint8)
    return changed


def _colours(amount: float, dice: RandomNumbers) -> Colours:
    """Brightness, saturation and tint as one matrix, and the contrast."""
    brightness, saturation, contrast = (1 + dice.between(-amount, amount) for _ in range(3))
    tint_3 = [brightness * (1 + dice.between(-amount, amount) / 3) for _ in range(3)]
    others = (1 - saturation) / 3
    rows = [
        [(others + saturation * (row == column)) * tint_3[column] for column in range(3)] for row in range(3)
    ]
    return Colours(np.array(rows, dtype=np.float32), contrast)


def _corner(picture: Image.Image) -> tuple[int, ...]:
    colour = picture.getpixel((0, 0))
    assert isinstance(colour, tuple)
    return colour


def _erased(side: int, dice: RandomNumbers) -> Rectangle:
    height, width = (max(1, round(side * dice.between(*_ERASED_SIDE))) for _ in range(2))
    top, left = dice.below(side - height + 1), dice.below(side - width + 1)
    return Rectangle(top, left, height, width, (dice.below(256), dice.below(256), dice.below(256)))
