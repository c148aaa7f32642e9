"""What Pillow does not check of a PNG, the checksums of its pixels, and what it refuses: long texts and profiles."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

_SIGNATURE_BYTES = 8
_LENGTH_AND_NAME = 8
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_LONGEST_TEXT, _MOST_TEXT = 2**20, 2**25  # bytes when unpacked; Pillow refuses more than twice the second
_LARGEST_PROFILE = 2**23
_CHECKED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
"""Chunks that decide what the picture looks like; a wrong checksum elsewhere does no harm."""


def damaged_chunk(content: bytes) -> str:
    """The name of the first chunk with pixels or colours whose checksum is wrong; empty if all are right.

    Where a copy or download left a hole, the data often still unpack, to other pixels. A chunk that is cut off has no
    checksum: whether it has all pixels shows when it is decoded.
    """
    view = memoryview(content)
    for name, start, end in _chunks(content):
        checksum = content[end : end + 4]
        if (
            name in _CHECKED
            and len(checksum) == 4
            and zlib.crc32(view[start - 4 : end]) != int.from_bytes(checksum)
        ):
            return name.decode()
    return ""


def without_long_texts(content: bytes) -> tuple[bytes, bytes | None]:
    """A PNG without texts and colour profiles that are too long for Pillow, and the profile if it was one of them.

    Editors write their whole history as a text, which does not change the picture. What unpacks to more than 8 MB is
    no profile. Any other file stays as it is.
    """
    if not content.startswith(_SIGNATURE):
        return content, None
    kept, done, total, profile = list[bytes](), 0, 0, None
    for name, start, end in _chunks(content):
        if name not in _TEXTS:
            continue
        text = _unpacked(name, content[start:end], _LONGEST_TEXT + 1)
        if len(text) > _LONGEST_TEXT or total + len(text) > _MOST_TEXT:
            kept.append(content[done : start - _LENGTH_AND_NAME])
            done = end + 4
            if name == b"iCCP":
                whole = _unpacked(name, content[start:end], _LARGEST_PROFILE + 1)
                profile = whole if len(whole) <= _LARGEST_PROFILE else None
        else:
            total += len(text)
    return (b"".join([*kept, content[done:]]), profile) if done else (content, None)


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The name of each chunk up to the picture's end, and where its data begin and end."""
    place = _SIGNATURE_BYTES
    while place + _LENGTH_AND_NAME <= len(content):
        name, start = content[place + 4 : place + 8], place + _LENGTH_AND_NAME
        if name == b"IEND":
            return
        end = start + int.from_bytes(content[place : place + 4])
        yield name, start, end
        place = end + 4


def _unpacked(name: bytes, data: bytes, most: int) -> bytes:
    """At most so many bytes of a text or profile; empty if it cannot be unpacked, which Pillow ignores."""
    rest = data.partition(b"\0")[2]
    if name == b"tEXt" or (name == b"iTXt" and rest[:1] == b"\0"):
        return rest[:most]
    packed = rest[2:].partition(b"\0")[2].partition(b"\0")[2] if name == b"iTXt" else rest[1:]
    try:
        return zlib.decompressobj().decompress(packed, most)
    except zlib.error:
        return b""
