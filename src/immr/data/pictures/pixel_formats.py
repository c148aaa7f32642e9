"""Converts any pixel format to opaque pixels of 8 bits per channel, on white behind transparency.

Done in horizontal bands, so that a palette or transparent picture of 32 million pixels is never expanded to
four bytes per pixel as a whole.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

Box = tuple[int, int, int, int]
_BAND_PIXELS = 1_000_000
_GREY = ("1", "L", "LA", "La")
_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")


def opaque(image: Image.Image, factor: int = 1, frame: Box | None = None) -> Image.Image:
    """An L, RGB or CMYK picture on white.

    Args:
        image: loaded, in any of Pillow's modes for JPEG, PNG, WebP, GIF and BMP; `info["transparency"]` is on
            the scale of the pixels.
        factor: average squares of this many pixels a side to one.
        frame: the part of the picture that the file has pixels for; the rest is white.
    """
    if image.mode in ("L", "RGB", "CMYK") and "transparency" not in image.info and frame is None:
        return image.reduce(factor) if factor > 1 else image
    width, height = image.size
    rows = factor * max(1, _BAND_PIXELS // (width * factor))
    size = (-(-width // factor), -(-height // factor))
    result = Image.new("L" if image.mode in _GREY or _is_deep(image) else "RGB", size)
    for top in range(0, height, rows):
        band = _on_white(image.crop((0, top, width, min(top + rows, height))))
        if frame is not None:
            band = _framed(band, (frame[0], frame[1] - top, frame[2], frame[3] - top))
        result.paste(band.reduce(factor) if factor > 1 else band, (0, top // factor))
    return result


def scale_transparency(image: Image.Image, png: bytes) -> None:
    """Bring a PNG's transparent colour, which is given in the file's bit depth, to that of the pixels.

    Pillow reads 2- and 4-bit grey as 8-bit, and keeps the upper 8 bits of 16-bit RGB.
    """
    value, depth = image.info.get("transparency"), png[24]  # the header comes first and has a fixed layout
    if image.mode == "L" and isinstance(value, int) and depth in (2, 4):
        image.info["transparency"] = value * 255 // (2**depth - 1)
    elif image.mode == "RGB" and isinstance(value, tuple) and depth == 16:
        image.info["transparency"] = tuple(channel >> 8 for channel in value)


def ignore_empty_alpha(image: Image.Image) -> None:
    """Make a BMP opaque if all of it is transparent, as browsers do: many programs leave the fourth byte at 0."""
    if image.mode == "RGBA" and image.getchannel("A").getbbox() is None:
        image.putalpha(255)


def _is_deep(image: Image.Image) -> bool:
    return image.mode == "I" or image.mode.startswith("I;16")


def _on_white(image: Image.Image) -> Image.Image:
    """L for grey pictures, RGB for all others."""
    if _is_deep(image):
        return _from_deep_grey(image)
    wanted = "L" if image.mode in _GREY else "RGB"
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        front = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", front.size, "white"), front)
    return image.convert(wanted)


def _from_deep_grey(image: Image.Image) -> Image.Image:
    values = np.asarray(image, dtype=np.float32)
    grey = (values * (255 / 65535)).astype(np.uint8)
    if (transparent := image.info.get("transparency")) is not None:
        grey[values == transparent] = 255
    return Image.fromarray(grey)


def _framed(image: Image.Image, frame: Box) -> Image.Image:
    canvas = Image.new(image.mode, image.size, "white")
    left, top, right, bottom = frame
    visible = (max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height))
    if visible[0] < visible[2] and visible[1] < visible[3]:
        canvas.paste(image.crop(visible), visible)
    return canvas
