"""Small pictures as data URIs, so that a report is a single file."""

from __future__ import annotations

import base64
import io

from PIL import ImageOps

from immr.data.pictures import picture_files
from immr.errors import DataError


def thumbnail(uri: str, side_px: int, square: bool = False) -> str:
    """A small JPEG as a data URI, with its aspect ratio or cropped to a square; empty if unreadable."""
    try:
        picture = picture_files.load(uri, min_side_px=side_px)
    except DataError:
        return ""
    if square:
        picture = ImageOps.fit(picture, (side_px, side_px))
    else:
        picture.thumbnail((side_px, side_px))
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=72)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()
