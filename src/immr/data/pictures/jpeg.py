"""What Pillow does not report about a JPEG: its coding process, and whether its pixels are complete."""

from __future__ import annotations

import re
from collections.abc import Iterator

from PIL import Image

_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LOSSLESS = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_END = b"\xff\xd9"
_SCAN = 0xDA
_AFTER_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # neither a zero after 0xFF nor a restart
_RESTARTS = [bytes([0xFF, marker]) for marker in range(0xD0, 0xD8)]
_ANY = b"\xaa"
_FEWEST_ZEROS = 64
_GREY = (127, 128)  # all coefficients are zero; Adobe's CMYK is inverted


def is_lossless(content: bytes) -> bool:
    """Coded without a DCT (process 14): a decoder cannot make it smaller while reading."""
    return _frame_header(content) in _LOSSLESS


def is_streamed(content: bytes) -> bool:
    """Sequential DCT: decoded, and made smaller, line by line. Of others the decoder keeps all in memory."""
    header = _frame_header(content)
    return header is not None and header not in _LOSSLESS | _PROGRESSIVE


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
    end = _AFTER_SCAN.search(content, next(begins, len(content)) + 2)
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


def _frame_header(content: bytes) -> int | None:
    """The marker of the first frame header (SOFn), ITU-T T.81 table B.1."""
    return next((marker for marker, _ in _segments(content) if marker in _FRAME_HEADERS), None)


def _segments(content: bytes) -> Iterator[tuple[int, int]]:
    """Marker and place of each segment, to the first scan."""
    place = 2
    while place + 4 <= len(content):
        if content[place] != 0xFF:
            place += 1  # garbage between segments is skipped, as libjpeg does
            continue
        marker = content[place + 1]
        if marker == 0xFF:
            place += 1
        elif marker in _WITHOUT_LENGTH or marker == 0x00:
            place += 2
        else:
            yield marker, place
            if marker in (0xD9, _SCAN):
                return
            place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
