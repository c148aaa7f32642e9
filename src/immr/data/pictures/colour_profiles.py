"""Colours as they were meant: pictures with an embedded ICC profile are converted to sRGB."""

from __future__ import annotations

import functools
import io

import numpy as np
from PIL import Image, ImageCms

_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}  # Pillow's mode → ICC's colour space
_CLOSE = 2  # of 255: a profile that changes no colour by more than this is sRGB for our purpose


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert an L, RGB or CMYK picture to RGB in sRGB.

    A profile that is broken or belongs to another colour space is ignored, as browsers do.

    Args:
        image: 8 bits per channel, no alpha.
        profile: the file's ICC profile.
    """
    transform = _transform(profile, image.mode) if profile else None
    return image.convert("RGB") if transform is None else ImageCms.applyTransform(image, transform) or image


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The conversion to sRGB; None if the profile cannot be used, or changes next to nothing."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != _SPACES[mode]:
            return None
        transform = ImageCms.buildTransform(source, _srgb(), mode, "RGB", ImageCms.Intent.PERCEPTUAL)
        colours = _colours(mode)
        converted = ImageCms.applyTransform(colours, transform)
        change = np.asarray(converted, np.int16) - np.asarray(colours.convert("RGB"), np.int16)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return transform if mode == "CMYK" or np.abs(change).max() > _CLOSE else None


@functools.cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _colours(mode: str) -> Image.Image:
    """A sample of all colours in a mode."""
    steps = np.linspace(0, 255, 6 if mode == "CMYK" else 13).astype(np.uint8)
    channels = len(Image.getmodebands(mode) * "x")
    grid = np.stack(np.meshgrid(*[steps] * channels, indexing="ij"), axis=-1).reshape(1, -1, channels)
    return Image.fromarray(grid[..., 0] if channels == 1 else grid, mode)
