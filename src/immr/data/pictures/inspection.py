"""Checks one picture: can it be read and decoded, and is it large enough?"""

from __future__ import annotations

from dataclasses import dataclass, replace

from immr.data.pictures import picture_files
from immr.data.pictures.remote.downloads import Fetched
from immr.errors import DataError, ImageError
from immr.storage import fingerprint

NOT_FETCHED, NOT_READ = "image cannot be fetched", "image cannot be read"
SMALLEST_SIDE_PX = 32
"""Of a changed item's picture; for whole catalogues, the governance recipe decides."""


@dataclass(frozen=True)
class Inspection:
    """The result of checking one picture; `reason` is empty if it is usable."""

    image: str
    image_sha256: str
    reason: str = ""
    detail: str = ""
    place: str = ""  # where the picture is, once it has been fetched


def inspect(uri: str, min_side_px: int | None, fetched: Fetched | None = None) -> Inspection:
    """Check one picture.

    Args:
        uri: as the table has it.
        min_side_px: a smaller picture is refused. With None, it is only hashed, and none is refused.
        fetched: what became of its download, if it had to be downloaded.
    """
    if fetched and fetched.path is None:
        return _judged(Inspection(uri, "", NOT_FETCHED, fetched.failure, uri), min_side_px)
    place = str(fetched.path) if fetched else uri
    if "://" not in place:
        place = picture_files.existing(place)
    try:
        content = picture_files.read(place)
    except DataError as error:
        return _judged(Inspection(uri, "", NOT_READ, str(error), place), min_side_px)
    sha256 = fingerprint.of_bytes(content)
    if min_side_px is None:
        return Inspection(uri, sha256, place=place)
    try:
        # decoding a JPEG at an eighth of its size finds the same damage in a fraction of the time
        picture = picture_files.decode(content, min_side_px=min_side_px)
    except ImageError as error:
        return Inspection(uri, sha256, "image cannot be decoded", str(error), place)
    if min(picture.size) < min_side_px:
        reason = f"image has a side below {min_side_px} px"
        return Inspection(uri, sha256, reason, f"{picture.width}×{picture.height} px", place)
    return Inspection(uri, sha256, place=place)


def _judged(inspection: Inspection, min_side_px: int | None) -> Inspection:
    return replace(inspection, reason="", detail="") if min_side_px is None else inspection
