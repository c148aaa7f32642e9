"""Which way up a picture is: the orientation from its EXIF or XMP metadata.

Only this one value is parsed. Pillow's `exif_transpose` rewrites the whole EXIF block, which fails on any
tag that the camera wrote with an unusual type.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from PIL import Image

_TAG = 0x0112
_FORMATS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}  # EXIF type → struct: integers of any size
_XMP = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([1-8])\s*[\"'<]")
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation_of(info: Mapping[Any, Any]) -> int:
    """The EXIF orientation, 1 (upright) to 8, from `Image.info` after loading; 1 if none is given.

    EXIF takes precedence over XMP. In PNG files both may also be in "raw profile" text chunks, as ImageMagick
    writes them.
    """
    for block in _exif_blocks(info):
        if found := _in_exif(block):
            return found
    for block in _xmp_blocks(info):
        if match := _XMP.search(block):
            return int(match[1])
    return 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Rotate and mirror a picture that was stored with this orientation."""
    return image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image


def _exif_blocks(info: Mapping[Any, Any]) -> Iterator[bytes]:
    if isinstance(exif := info.get("exif"), bytes):
        yield exif
    for name in ("exif", "APP1"):
        if raw := _raw_profile(info.get(f"Raw profile type {name}")):
            yield raw


def _xmp_blocks(info: Mapping[Any, Any]) -> Iterator[bytes]:
    for value in (info.get("xmp"), info.get("XML:com.adobe.xmp")):
        if isinstance(value, str):
            yield value.encode(errors="replace")
        elif isinstance(value, bytes):
            yield value
    for name in ("xmp", "APP1"):
        if raw := _raw_profile(info.get(f"Raw profile type {name}")):
            yield raw


def _raw_profile(text: object) -> bytes:
    """The bytes of "\\n<name>\\n<length>\\n<hex digits in lines>"; empty if it is not that."""
    try:
        return bytes.fromhex(str(text).split(maxsplit=2)[2]) if isinstance(text, str) else b""
    except (IndexError, ValueError):
        return b""


def _in_exif(block: bytes) -> int | None:
    """The orientation in the first directory of a TIFF structure, as far as that can be read."""
    tiff = block.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return None
    try:
        (offset,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, offset)
        for entry in range(offset + 2, offset + 2 + 12 * count, 12):
            tag, kind, values = struct.unpack_from(f"{order}HHI", tiff, entry)
            if tag == _TAG and kind in _FORMATS and values:
                (value,) = struct.unpack_from(f"{order}{_FORMATS[kind]}", tiff, entry + 8)
                return value if 1 <= value <= 8 else None
    except struct.error:  # cut off
        return None
    return None
