"""Applies the changes of `augmentation` to a whole batch in a few kernels, with the same random numbers.

Pillow rounds to whole levels after each step, this only at the end, so values differ by about one level.

Shapes: B pictures, H, W the largest height and width among them, S the side of the resulting squares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from immr.model.device_resizing import resized
from immr.train.inputs.augmentation import GREY, DrawnChange
from immr.types import ByteArray

_ALMOST = 1e-3  # a level that rounding errors moved below a whole one
_BLUR_TAPS = 3  # to either side
_THICKER, _SOFTER = 1.0, 2.0  # strokes, in the order of `augmentation`


@dataclass(frozen=True)
class Sheets:
    """A batch before its changes: each picture in the corner of a sheet that fits the largest, with its numbers."""

    pixels_BHWC: Tensor  # uint8; arbitrary outside the pictures
    numbers_BN: Tensor  # float32, see `_Numbers`

    def to(self, device: torch.device) -> Sheets:
        """The same on a device, without waiting if these are in pinned memory."""
        return Sheets(
            self.pixels_BHWC.to(device, non_blocking=True), self.numbers_BN.to(device, non_blocking=True)
        )

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Keep the memory until this stream, which did not allocate it, has used it."""
        self.pixels_BHWC.record_stream(stream)
        self.numbers_BN.record_stream(stream)


class _Numbers(NamedTuple):
    """The numbers of a batch's pictures and changes."""

    size_B2: Tensor  # height and width, borders included
    border_B: Tensor
    paper_B3: Tensor  # colour of a border and of what turning uncovers
    stroke_B: Tensor  # 0 for none
    box_B4: Tensor  # left, top, right and bottom of the crop
    turn_B: Tensor  # in radians
    mirrored_B: Tensor  # 0 or 1
    matrix_B33: Tensor
    contrast_B: Tensor
    erased_B4: Tensor  # top, left, bottom and right; empty for none
    erased_colour_B3: Tensor

    @classmethod
    def of(cls, numbers_BN: Tensor) -> _Numbers:
        """Views of their columns."""
        parts = torch.split(numbers_BN, _WIDTHS, dim=1)
        columns = [part[:, 0] if part.shape[1] == 1 else part for part in parts]
        return cls(*(part.view(-1, 3, 3) if part.shape[1:] == (9,) else part for part in columns))


_WIDTHS = [2, 1, 3, 1, 4, 1, 1, 9, 1, 4, 3]


def sheets(pictures: Sequence[ByteArray], changes: Sequence[DrawnChange], pinned: bool = False) -> Sheets:
    """A batch on the host.

    Args:
        pictures: of any sizes.
        changes: one for each.
        pinned: in memory that a GPU can copy while the host does other work.
    """
    sizes = [
        (picture.shape[0] + 2 * change.border, picture.shape[1] + 2 * change.border)
        for picture, change in zip(pictures, changes, strict=True)
    ]
    height, width = (max(edges) for edges in zip(*sizes, strict=True))
    pixels_BHWC = torch.empty(len(pictures), height, width, 3, dtype=torch.uint8, pin_memory=pinned)
    for sheet_HWC, picture, change in zip(pixels_BHWC.numpy(), pictures, changes, strict=True):
        own_height, own_width = picture.shape[:2]
        top = left = change.border
        sheet_HWC[top : top + own_height, left : left + own_width] = picture
    rows = [
        _numbers(size, picture, change)
        for size, picture, change in zip(sizes, pictures, changes, strict=True)
    ]
    return Sheets(pixels_BHWC, torch.tensor(rows, dtype=torch.float32, pin_memory=pinned))


def _numbers(size: tuple[int, int], picture: ByteArray, change: DrawnChange) -> list[float]:
    paper = picture[0, 0].tolist() if change.on_paper else GREY
    matrix_33, contrast = change.colours or (np.eye(3), 1.0)
    erased, colour = (0, 0, 0, 0), (0, 0, 0)
    if change.erased:
        top, left, height, width, colour = change.erased
        erased = (top, left, top + height, left + width)
    stroke = 0 if change.stroke is None else 1 + change.stroke
    turn = math.radians(change.turn_deg)
    return [
        *size,
        change.border,
        *paper,
        stroke,
        *change.box,
        turn,
        change.mirrored,
        *matrix_33.ravel(),
        contrast,
        *erased,
        *colour,
    ]


def changed(batch: Sheets, side_px: int, strokes: bool) -> Tensor:
    """The changed pictures, whole levels 0 … 255 in float32, (B, 3, S, S).

    Args:
        batch: on the device that computes.
        side_px: S.
        strokes: whether any picture of the stage may have a stroke; saves two filters.
    """
    pixels_BHWC, numbers = batch.pixels_BHWC, _Numbers.of(batch.numbers_BN)
    _, height, width, _ = pixels_BHWC.shape
    paper_B311 = numbers.paper_B3[:, :, None, None]
    ink_B3HW = pixels_BHWC.permute(0, 3, 1, 2).float().sub_(paper_B311)  # paper is zero from here on
    ink_B3HW = (ink_B3HW * _inside(numbers, height, width)[:, None]).contiguous()
    if strokes:
        ink_B3HW = _stroked(ink_B3HW, numbers.stroke_B)
    ink_B3HW = _turned(ink_B3HW, numbers)
    square_B3SS = resized(ink_B3HW, numbers.box_B4, numbers.size_B2, side_px, numbers.mirrored_B)
    square_B3SS.add_(paper_B311).clamp_(0, 255).round_()
    return _erased(_recoloured(square_B3SS, numbers), numbers)


def _inside(batch: _Numbers, height: int, width: int) -> Tensor:
    """(B, H, W): whether a place of the sheet is in the picture."""
    end_B2 = batch.size_B2 - batch.border_B[:, None]
    y_H, x_W = _places(height, batch.border_B), _places(width, batch.border_B)
    start_B1 = batch.border_B[:, None]
    in_y_BH = (y_H >= start_B1) & (y_H < end_B2[:, :1])
    in_x_BW = (x_W >= start_B1) & (x_W < end_B2[:, 1:])
    return in_y_BH[:, :, None] & in_x_BW[:, None]


def _stroked(ink_B3HW: Tensor, stroke_B: Tensor) -> Tensor:
    taps = torch.arange(-_BLUR_TAPS, _BLUR_TAPS + 1, device=ink_B3HW.device, dtype=torch.float32)
    gauss = (-taps.square() / 2).exp()
    gauss = (gauss / gauss.sum()).expand(3, 1, 1, -1)
    across = F.conv2d(F.pad(ink_B3HW, (_BLUR_TAPS,) * 4, "replicate"), gauss, groups=3)
    soft = F.conv2d(across, gauss.transpose(2, 3), groups=3)
    stroke_B111 = stroke_B[:, None, None, None]
    ink_B3HW = torch.where(stroke_B111 == _THICKER, F.max_pool2d(ink_B3HW, 3, 1, 1), ink_B3HW)
    return torch.where(stroke_B111 == _SOFTER, soft, ink_B3HW)


def _turned(ink_B3HW: Tensor, batch: _Numbers) -> Tensor:
    """Turned around the crop's centre, as Pillow does: counter-clockwise, with pixel centres at halves."""
    _, _, height, width = ink_B3HW.shape
    left_B, top_B, right_B, bottom_B = batch.box_B4.unbind(1)
    x_B1W = 0.5 + _places(width, left_B) - ((left_B + right_B) / 2)[:, None, None]
    y_BH1 = 0.5 + _places(height, left_B)[:, None] - ((top_B + bottom_B) / 2)[:, None, None]
    cos, sin = batch.turn_B.cos()[:, None, None], batch.turn_B.sin()[:, None, None]
    from_x = cos * x_B1W - sin * y_BH1 + ((left_B + right_B) / 2)[:, None, None]
    from_y = sin * x_B1W + cos * y_BH1 + ((top_B + bottom_B) / 2)[:, None, None]
    grid_BHW2 = torch.stack([2 * from_x / width - 1, 2 * from_y / height - 1], dim=-1)
    return F.grid_sample(ink_B3HW, grid_BHW2, padding_mode="zeros", align_corners=False)


def _recoloured(square_B3SS: Tensor, batch: _Numbers) -> Tensor:
    """As `augmentation.recoloured`."""
    pixels_B3N = square_B3SS.flatten(2)
    mean_B31 = pixels_B3N.mean(2, keepdim=True)
    around_B3N = mean_B31 + batch.contrast_B[:, None, None] * (pixels_B3N - mean_B31)
    found_B3N = torch.bmm(batch.matrix_B33.mT, around_B3N)
    return found_B3N.add_(_ALMOST).clamp_(0, 255).floor_().view_as(square_B3SS)


def _erased(square_B3SS: Tensor, batch: _Numbers) -> Tensor:
    side = square_B3SS.shape[-1]
    at_S = _places(side, batch.turn_B)
    top_B1, left_B1, bottom_B1, right_B1 = batch.erased_B4[:, :, None].unbind(1)
    in_y_BS = (at_S >= top_B1) & (at_S < bottom_B1)
    in_x_BS = (at_S >= left_B1) & (at_S < right_B1)
    hidden_B1SS = (in_y_BS[:, :, None] & in_x_BS[:, None])[:, None]
    return torch.where(hidden_B1SS, batch.erased_colour_B3[:, :, None, None], square_B3SS)


def _places(count: int, like: Tensor) -> Tensor:
    """0 … count, float32."""
    return torch.arange(count, dtype=torch.float32, device=like.device)
