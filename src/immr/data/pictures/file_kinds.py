"""What a file is, by how its content begins."""

from __future__ import annotations

import re

_SIGNATURES = [
    (re.compile(signature, re.DOTALL), f"image/{name}")
    for signature, name in (
        (rb"\xff\xd8\xff", "jpeg"),
        (rb"\x89PNG\r\n\x1a\n", "png"),
        (rb"RIFF....WEBP", "webp"),
        (rb"GIF8[79]a", "gif"),
        (rb"BM", "bmp"),
    )
]
_OTHER_KINDS = [
    (re.compile(signature, re.DOTALL), name)
    for signature, name in (
        (rb"....ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1)", "a HEIC photo"),  # iPhone
        (rb"....ftypavi[fs]", "an AVIF picture"),
        (rb"....ftyp", "a video"),
        (rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL picture"),
        (rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
        (rb"II\*\0|MM\0\*", "a TIFF picture, or a camera's raw photo"),
        (rb"\x00\x00\x01\x00", "an icon"),
        (rb"8BPS", "a Photoshop file"),
        (rb"%PDF", "a PDF"),
        (rb".{0,1000}<svg\b", "an SVG drawing"),
        (rb"\x1f\x8b", "packed by gzip"),
    )
]
"""Formats that we do not read, as the error message names them."""


def media_type_of(content: bytes) -> str | None:
    """The media type of a picture that we read, from its first 16 bytes; None for anything else."""
    for signature, media_type in _SIGNATURES:
        if signature.match(content):
            return media_type
    return None


def other_kind_of(content: bytes) -> str:
    """The format of a file that we do not read, with a comma behind it for a message; empty if it is unknown."""
    found = (name for signature, name in _OTHER_KINDS if signature.match(content))
    return next((f"{name}, " for name in found), "")
