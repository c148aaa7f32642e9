"""Frames a drawing: separates its ink from the paper and crops to it (ours).

For drawings, logos and scans, where neither the colours nor the position on the paper matter. The result looks
the same for a photo of a drawing and for its clean picture in a catalogue.

Shapes: H, W the working picture, P its pixels, S the side of the result.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image

from immr.types import FloatArray

WORKING_PX = 192  # longest side of the working picture: enough for a drawing that covers a third of the photo
_BORDER = 0.06  # share of the picture at each edge, where the paper is expected first
_FIT_PX = 40  # side at which the paper is fitted
_REFITS = 3
_LEAST_NOISE = 2.0  # of 255: compression leaves that much on the cleanest paper
_SPECKS = 0.004  # share of the ink that may lie outside the frame, at each edge
_MARGIN = 0.06  # around the ink, as a share of the frame
_LEVELS = 128


def framed(picture: Image.Image, side_px: int) -> Image.Image:
    """The ink of a drawing as a grey RGB picture (S, S): black paper, white ink.

    The paper is a smooth surface through the pixels at the edges, refitted to all pixels that match it. Ink is
    the distance from it in colour space, so its colour does not matter. A blank picture stays black.
    """
    scale = min(1.0, WORKING_PX / max(picture.size))
    if scale < 1.0:
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        picture = picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    ink_HW = _smoothed(_distance_from_paper(np.asarray(picture, dtype=np.float32)))
    is_ink_HW = ink_HW > max(_otsu(ink_HW), _LEAST_NOISE)
    if not is_ink_HW.any():
        return Image.new("RGB", (side_px, side_px))
    paper, ink = float(ink_HW[~is_ink_HW].mean()), float(ink_HW[is_ink_HW].mean())
    grey_HW = ((ink_HW - paper) / (ink - paper)).clip(0.0, 1.0) * 255
    grey = Image.fromarray(grey_HW.astype(np.uint8))
    return _cut(grey, _frame(is_ink_HW), side_px).convert("RGB")


class _Frame(NamedTuple):
    """A square, in pixels."""

    left: float
    top: float
    side: float


def _distance_from_paper(pixels_HWC: FloatArray) -> FloatArray:
    """(H, W), the Euclidean distance of each pixel from the fitted paper, 0 to 442."""
    height, width = pixels_HWC.shape[:2]
    surface_PK, at_edge_P = _surface(height, width)
    colours_PC = pixels_HWC.reshape(-1, 3)
    fitted = _grid(height, width)
    some_PK, some_PC = surface_PK[fitted], colours_PC[fitted]
    paper_P = at_edge_P[fitted]
    for _ in range(1 + _REFITS):
        matched_PK = some_PK[paper_P]
        coefficients_KC = np.linalg.lstsq(matched_PK, some_PC[paper_P], rcond=None)[0]
        distance_P = _lengths(some_PC - some_PK @ coefficients_KC)
        matches_P = distance_P < 4 * float(np.median(distance_P[paper_P])) + 4 * _LEAST_NOISE
        if matches_P.sum() < surface_PK.shape[1]:
            break
        paper_P = matches_P
    return _lengths(colours_PC - surface_PK @ coefficients_KC).reshape(height, width)


def _lengths(rows_PC: FloatArray) -> FloatArray:
    lengths_P: FloatArray = np.sqrt(np.einsum("pc,pc->p", rows_PC, rows_PC))
    return lengths_P


@lru_cache(maxsize=16)
def _surface(height: int, width: int) -> tuple[FloatArray, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """The terms of a quadratic surface (P, 6), and which pixels are at the edges (P,)."""
    y_HW, x_HW = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = [np.ones_like(x_HW), x_HW, y_HW, x_HW**2, y_HW**2, x_HW * y_HW]
    at_edge_HW = np.maximum(abs(x_HW), abs(y_HW)) > 1 - 2 * _BORDER
    return np.stack(terms, axis=-1).reshape(-1, len(terms)).astype(np.float32), at_edge_HW.ravel()


@lru_cache(maxsize=16)
def _grid(height: int, width: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The pixels that the paper is fitted to: every n-th in both directions."""
    rows_HW = np.arange(height * width).reshape(height, width)
    return rows_HW[:: 1 + height // _FIT_PX, :: 1 + width // _FIT_PX].ravel()


def _smoothed(ink_HW: FloatArray) -> FloatArray:
    padded_HW = np.pad(ink_HW, 1, mode="edge")
    across_HW = padded_HW[:, :-2] + 2 * padded_HW[:, 1:-1] + padded_HW[:, 2:]
    smoothed_HW: FloatArray = (across_HW[:-2] + 2 * across_HW[1:-1] + across_HW[2:]) / 16
    return smoothed_HW


def _otsu(ink_HW: FloatArray) -> float:
    """The threshold that separates two levels best (Otsu, 1979)."""
    counts, edges = np.histogram(ink_HW, _LEVELS)
    centres = (edges[1:] + edges[:-1]) / 2
    below, mass = np.cumsum(counts), np.cumsum(counts * centres)
    inner = (below > 0) & (below < below[-1])
    if not inner.any():
        return float(edges[-1])
    below, share = below[inner], mass[inner]
    between = (mass[-1] * below / counts.sum() - share) ** 2 / (below * (counts.sum() - below))
    return float(centres[inner][between.argmax()])


def _frame(is_ink_HW: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> _Frame:
    """A square around the ink, without specks far away from it."""
    top, bottom = _extent(is_ink_HW.sum(1))
    left, right = _extent(is_ink_HW.sum(0))
    side = (1 + 2 * _MARGIN) * max(bottom - top, right - left)
    return _Frame((left + right - side) / 2, (top + bottom - side) / 2, side)


def _extent(ink_L: np.ndarray[tuple[int], np.dtype[np.int64]]) -> tuple[int, int]:
    """The first row or column of the ink, and one past the last."""
    before_L = ink_L.cumsum() / ink_L.sum()
    first = int((before_L > _SPECKS).argmax())
    last = int((before_L >= 1 - _SPECKS).argmax())
    return first, last + 1


def _cut(grey: Image.Image, frame: _Frame, side_px: int) -> Image.Image:
    """The frame at side S; what lies beyond the picture is paper."""
    beyond = max(
        -frame.left,
        -frame.top,
        frame.left + frame.side - grey.width,
        frame.top + frame.side - grey.height,
        0.0,
    )
    border = math.ceil(beyond) + 1
    sheet = Image.new("L", (grey.width + 2 * border, grey.height + 2 * border))
    sheet.paste(grey, (border, border))
    left, top = frame.left + border, frame.top + border
    box = (left, top, left + frame.side, top + frame.side)
    return sheet.resize((side_px, side_px), Image.Resampling.BICUBIC, box=box)
