"""What Pillow does not check of a PNG: the checksums of its pixels."""

from __future__ import annotations

import zlib

_SIGNATURE_BYTES = 8
_LENGTH_AND_NAME = 8
_CHECKED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
"""Chunks that decide what the picture looks like; a wrong checksum elsewhere does no harm."""


def damaged_chunk(content: bytes) -> str:
    """The name of the first chunk with pixels or colours whose checksum is wrong; empty if all are right.

    Where a copy or download left a hole, the data often still unpack, to other pixels. A chunk that is cut off has no
    checksum: whether it has all pixels shows when it is decoded.
    """
    view, place = memoryview(content), _SIGNATURE_BYTES
    while place + _LENGTH_AND_NAME <= len(content):
        name = content[place + 4 : place + 8]
        end = place + _LENGTH_AND_NAME + int.from_bytes(content[place : place + 4])
        checksum = content[end : end + 4]
        if name == b"IEND":
            break
        if (
            name in _CHECKED
            and len(checksum) == 4
            and zlib.crc32(view[place + 4 : end]) != int.from_bytes(checksum)
        ):
            return name.decode()
        place = end + 4
    return ""
