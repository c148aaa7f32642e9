"""Proposes the parts of a photo that may show one thing each, so that a shopper can choose what to search for.

Two cues of Alexe, Deselaers and Ferrari, "What is an object?" (CVPR 2010), which need no training: the colours in a
box differ from those around it, and few edges cross its border while many lie within. Every box of a fixed grid is
scored; integral images make that fast (Crow 1984).

Shapes: H × W pixels of the reduced photo, C colours, B boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from immr.types import Region

_SIDE_PX = 64  # shorter side of the reduced photo: boxes are rough, and the encoder reads the photo itself
_LONGEST_PX = 160
_LEVELS = 4  # of each channel, so that C is 64
_SIZES = (0.2, 0.27, 0.36, 0.48, 0.64, 0.85)  # of a box's side, relative to the shorter side of the photo
_ASPECTS = (0.66, 1.0, 1.5)
_STRIDE = 0.15  # relative to the box's side
_RING = 0.25  # width of the surroundings that a box is compared with, relative to its side
_CROSSED = 0.08  # half the width of the border that edges should not cross
_LARGEST_OVERLAP = 0.3  # intersection over union of two proposals

_Boxes = npt.NDArray[np.intp]  # (B, 4): left, top, right, bottom in pixels


@dataclass(frozen=True, slots=True)
class RegionProposal:
    """A part of a photo, and how much it stands out from its surroundings, from 0 to 1."""

    region: Region
    score: float


def propose(picture: Image.Image, most: int) -> list[RegionProposal]:
    """The parts of a photo that stand out, best first, hardly overlapping.

    Args:
        picture: upright, RGB.
        most: the largest number of regions; fewer if no other part differs from its surroundings.
    """
    scale = min(_SIDE_PX / min(picture.size), _LONGEST_PX / max(picture.size))
    size = (max(2, round(picture.width * scale)), max(2, round(picture.height * scale)))
    pixels_HW3 = np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BOX))
    boxes = _grid(*size)
    score_B = _contrast(pixels_HW3, boxes) * _closedness(pixels_HW3, boxes)
    chosen = _best_apart(boxes, score_B, most)
    return [RegionProposal(_region(boxes[row], size), round(float(score_B[row]), 4)) for row in chosen]


@lru_cache(maxsize=64)
def _grid(width: int, height: int) -> _Boxes:
    boxes = []
    for size in _SIZES:
        for aspect in _ASPECTS:
            side = size * min(width, height)
            w, h = round(side * aspect**0.5), round(side / aspect**0.5)
            if not (1 <= w < width and 1 <= h < height):
                continue
            step_x, step_y = max(1, round(_STRIDE * w)), max(1, round(_STRIDE * h))
            for top in range(0, height - h + 1, step_y):
                boxes += [(left, top, left + w, top + h) for left in range(0, width - w + 1, step_x)]
    return np.array(boxes, dtype=np.intp).reshape(-1, 4)


def _contrast(pixels_HW3: npt.NDArray[np.uint8], boxes: _Boxes) -> npt.NDArray[np.float64]:
    """(B,) χ² distance, 0 to 1, between the colours of each box and those of the ring around it."""
    level_HW3 = (pixels_HW3.astype(np.intp) * _LEVELS) >> 8
    colour_HW = (level_HW3[..., 0] * _LEVELS + level_HW3[..., 1]) * _LEVELS + level_HW3[..., 2]
    sums_HWC = _integral((colour_HW[..., None] == np.unique(colour_HW)).astype(np.float32))
    inside_BC = _sums(sums_HWC, boxes)
    ring_BC = _sums(sums_HWC, _grown(boxes, _RING, colour_HW.shape)) - inside_BC
    inside_BC /= inside_BC.sum(1, keepdims=True)
    ring_BC /= np.maximum(ring_BC.sum(1, keepdims=True), 1)
    difference_BC = (inside_BC - ring_BC) ** 2 / np.maximum(inside_BC + ring_BC, 1e-9)
    contrast_B: npt.NDArray[np.float64] = difference_BC.sum(1) / 2
    return contrast_B


def _closedness(pixels_HW3: npt.NDArray[np.uint8], boxes: _Boxes) -> npt.NDArray[np.float64]:
    """(B,) share of the edges in and around each box that do not lie outside it."""
    grey_HW = pixels_HW3.mean(2)
    edges_HW = np.hypot(*np.gradient(grey_HW))
    sums_HW1 = _integral(edges_HW[..., None].astype(np.float32))
    inside_B, around_B = (
        _sums(sums_HW1, _grown(boxes, share, grey_HW.shape))[:, 0] for share in (_CROSSED, _RING)
    )
    closedness_B: npt.NDArray[np.float64] = (inside_B + 1) / (around_B + 1)
    return closedness_B


def _integral(values_HWC: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """(H + 1, W + 1, C) sums of everything above and left."""
    height, width, channels = values_HWC.shape
    sums = np.zeros((height + 1, width + 1, channels))
    sums[1:, 1:] = values_HWC.cumsum(0, dtype=np.float64).cumsum(1)
    return sums


def _sums(sums_HWC: npt.NDArray[np.float64], boxes: _Boxes) -> npt.NDArray[np.float64]:
    """(B, C) within each box."""
    left, top, right, bottom = boxes.T
    right_BC = sums_HWC[bottom, right] - sums_HWC[top, right]
    within_BC: npt.NDArray[np.float64] = right_BC - sums_HWC[bottom, left] + sums_HWC[top, left]
    return within_BC


def _grown(boxes: _Boxes, share: float, shape: tuple[int, ...]) -> _Boxes:
    """Each box with so much of its sides added all around, as far as the photo reaches."""
    height, width = shape[:2]
    left, top, right, bottom = boxes.T
    x = np.maximum(1, np.rint(share * (right - left)).astype(np.intp))
    y = np.maximum(1, np.rint(share * (bottom - top)).astype(np.intp))
    grown = (
        np.maximum(left - x, 0),
        np.maximum(top - y, 0),
        np.minimum(right + x, width),
        np.minimum(bottom + y, height),
    )
    return np.stack(grown, axis=1)


def _best_apart(boxes: _Boxes, score_B: npt.NDArray[np.float64], most: int) -> list[int]:
    """Rows of the best boxes that do not overlap much (non-maximum suppression)."""
    chosen: list[int] = []
    left_B = np.ones(len(boxes), dtype=np.bool_)
    order = np.argsort(-score_B, kind="stable")
    for row in order:
        if len(chosen) == most or score_B[row] <= 0:
            break
        if left_B[row]:
            chosen.append(int(row))
            left_B &= overlap(boxes, boxes[row]) <= _LARGEST_OVERLAP
    return chosen


def overlap(boxes: npt.NDArray[np.number], box: npt.NDArray[np.number]) -> npt.NDArray[np.float64]:
    """(B,) intersection over union of boxes with one box."""
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    common_B = np.prod(np.maximum(sides, 0), axis=1, dtype=np.float64)
    area_B = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1, dtype=np.float64)
    shared_B: npt.NDArray[np.float64] = common_B / (area_B + np.prod(box[2:] - box[:2]) - common_B)
    return shared_B


def _region(box: Sequence[int], size: tuple[int, int]) -> Region:
    left, top, right, bottom = (int(each) for each in box)
    width, height = size
    return Region(left / width, top / height, (right - left) / width, (bottom - top) / height)
