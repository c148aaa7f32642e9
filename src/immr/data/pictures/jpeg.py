"""What Pillow does not report about a JPEG: its coding process, and whether its pixels are complete."""

from __future__ import annotations

import re
from collections.abc import Iterator

from PIL import Image

_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LOSSLESS = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_SCAN = 0xDA
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")  # others have no length, or are a part of a scan's data
_END = b"\xff\xd9"
_AFTER_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # neither a zero after 0xFF nor a restart
_RESTARTS = [bytes([0xFF, marker]) for marker in range(0xD0, 0xD8)]
_ANY = b"\xaa"
_FEWEST_ZEROS = 64
_GREY = (127, 128)  # all coefficients are zero; Adobe's CMYK is inverted


def is_lossless(content: bytes) -> bool:
    """Coded without a DCT (process 14): a decoder cannot make it smaller while reading."""
    return _frame_header(content)[0] in _LOSSLESS


def is_streamed(content: bytes) -> bool:
    """Sequential DCT in one scan: decoded, and made smaller, line by line.

    Of other JPEGs the decoder keeps all coefficients in memory.
    """
    frame, components = _frame_header(content)
    scan = next((place for marker, place in _segments(content) if marker == _SCAN), None)
    in_one_scan = scan is not None and content[scan + 2 : scan + 3] == bytes([components])
    return frame in _FRAME_HEADERS - _LOSSLESS - _PROGRESSIVE and in_one_scan


def scans(content: bytes) -> int:
    """How often a decoder passes over the picture; each pass takes time, but next to no bytes."""
    return sum(marker == _SCAN for marker, _ in _segments(content))


def endings(content: bytes) -> tuple[bytes, bytes]:
    """Two completed versions of a file without an end marker.

    They decode to the same pixels if every line is in the file; missing lines are filled from what follows,
    which differs. A decoder that waits for a restart marker skips all that is before the next.
    """
    content = content.rstrip(b"\xff")
    return content + _END, content + _ANY * 512 + b"".join(each + _ANY * 64 for each in _RESTARTS) + _END


def first_scan(content: bytes) -> bytes:
    """The file up to the end of its first scan.

    Of a progressive JPEG it has the coarsest value of each block. In later scans, bytes behind the last line may
    change no pixel, as in the scans of a CMYK picture's black.
    """
    begins = (place for marker, place in _segments(content) if marker == _SCAN)
    end = _AFTER_SCAN.search(content, next(begins, len(content)))
    return content[: end.start()] if end else content


def without_filling(content: bytes) -> bytes | None:
    """The content before the zeros at its end; None if there are fewer than 64.

    Zeros stand where a copy or download reserved space and never filled it. They are valid code words, so a decoder
    makes grey lines of them without an error.
    """
    return content.rstrip(b"\0") if content.endswith(bytes(_FEWEST_ZEROS)) else None


def may_lack_lines(image: Image.Image) -> bool:
    """Whether a decoded picture ends with the grey that decoders put where data are missing; it may be a real one."""
    last = image.getpixel((image.width - 1, image.height - 1))
    return all(value in _GREY for value in (last if isinstance(last, tuple) else (last,)))


def _frame_header(content: bytes) -> tuple[int, int]:
    """The marker of the first frame header (SOFn), ITU-T T.81 table B.1, and its number of components; else zeros."""
    for marker, place in _segments(content):
        if marker in _FRAME_HEADERS:
            return marker, int.from_bytes(content[place + 7 : place + 8])
    return 0, 0


def _segments(content: bytes) -> Iterator[tuple[int, int]]:
    """The markers up to the picture's end that have a length, and the places of their lengths.

    What is between segments is skipped, as libjpeg does: a scan's data, and garbage.
    """
    place = 2
    while (found := _MARKER.search(content, place)) and (marker := found[1][0]) != _END[1]:
        place = found.end()
        yield marker, place
        place += max(2, int.from_bytes(content[place : place + 2]))
