"""Draws items and photos of them, about a thousand a second on one core.

A thing is a superellipse in two colours with a pattern; its numbers are continuous, so that a million things all
differ. The catalogue shows it upright on white. A photo shows it turned, shifted, lit and noisy, on a background
in two colours.

Shapes: S the side of a square picture in pixels.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from immr.types import FloatArray

SIDE_PX = 128
PATTERNS = ("striped", "ringed", "chequered")
_NOISE_SIDE = 64
_LINE = np.linspace(-1.15, 1.15, SIDE_PX, dtype=np.float32)
_X_SS, _Y_SS = np.meshgrid(_LINE, _LINE)


@dataclass(frozen=True)
class Thing:
    """What an item looks like; hues are 0 … 1."""

    hue: float
    second_hue: float
    dark: bool
    roundness: float  # exponent of the superellipse: 1 is a diamond, 2 an ellipse, 6 nearly a rectangle
    slimness: float  # width over height
    pattern: str
    frequency: float
    angle: float

    @classmethod
    def of(cls, seed: int, number: int) -> Thing:
        """The thing with this number."""
        rng = np.random.default_rng([seed, number])
        return cls(
            hue=rng.random(),
            second_hue=rng.random(),
            dark=bool(rng.random() < 0.4),
            roundness=float(rng.uniform(1, 6)),
            slimness=float(rng.uniform(0.45, 1)),
            pattern=PATTERNS[rng.integers(len(PATTERNS))],
            frequency=float(rng.uniform(4, 15)),
            angle=float(rng.uniform(0, math.pi)),
        )


def write_catalogue_picture(thing: Thing, path: Path) -> None:
    """The thing upright on white."""
    _write(_drawn(thing, _X_SS, _Y_SS, np.full((SIDE_PX, SIDE_PX, 3), 255, np.float32)), path)


def write_photo(thing: Thing, path: Path, rng: np.random.Generator) -> None:
    """The thing as a shopper photographs it."""
    turn, size = rng.uniform(-0.5, 0.5), rng.uniform(0.55, 1.0)
    x_SS, y_SS = _X_SS - np.float32(rng.uniform(-0.2, 0.2)), _Y_SS - np.float32(rng.uniform(-0.2, 0.2))
    cos, sin = np.float32(math.cos(turn) / size), np.float32(math.sin(turn) / size)
    one, other = rng.uniform(40, 225, (2, 3)).astype(np.float32)
    mixed_SS1 = ((_X_SS * np.float32(rng.choice([-1, 1])) + _Y_SS) / 4.6 + 0.5)[..., None]
    pixels_SSC = _drawn(
        thing, x_SS * cos + y_SS * sin, y_SS * cos - x_SS * sin, one * mixed_SS1 + other * (1 - mixed_SS1)
    )
    noise = rng.integers(-12, 13, (_NOISE_SIDE, _NOISE_SIDE, 1)).astype(np.float32)
    pixels_SSC += np.tile(noise, (SIDE_PX // _NOISE_SIDE, SIDE_PX // _NOISE_SIDE, 1))
    _write(pixels_SSC * rng.uniform(0.75, 1.2, 1).astype(np.float32), path)


def _drawn(thing: Thing, x_SS: FloatArray, y_SS: FloatArray, behind_SSC: FloatArray) -> FloatArray:
    wide_SS, high_SS = np.abs(x_SS / np.float32(thing.slimness)), np.abs(y_SS)
    inside_SS = wide_SS ** np.float32(thing.roundness) + high_SS ** np.float32(thing.roundness) < 1
    along_SS = x_SS * np.float32(math.cos(thing.angle)) + y_SS * np.float32(math.sin(thing.angle))
    waves = np.float32(thing.frequency)
    if thing.pattern == "striped":
        second_SS = np.sin(waves * along_SS) > 0
    elif thing.pattern == "ringed":
        second_SS = np.sin(waves * 1.5 * np.hypot(x_SS, y_SS)) > 0
    else:
        across_SS = y_SS * np.float32(math.cos(thing.angle)) - x_SS * np.float32(math.sin(thing.angle))
        second_SS = (np.sin(waves * along_SS) > 0) ^ (np.sin(waves * across_SS) > 0)
    body_SSC = np.where(second_SS[..., None], _rgb(thing.second_hue, False), _rgb(thing.hue, thing.dark))
    drawn_SSC: FloatArray = np.where(inside_SS[..., None], body_SSC, behind_SSC).astype(np.float32)
    return drawn_SSC


def _rgb(hue: float, dark: bool) -> FloatArray:
    return np.array(colorsys.hsv_to_rgb(hue, 0.75, 0.45 if dark else 0.9), np.float32) * 255


def _write(pixels_SSC: FloatArray, path: Path) -> None:
    Image.fromarray(pixels_SSC.clip(0, 255).astype(np.uint8)).save(path, "JPEG", quality=85)
