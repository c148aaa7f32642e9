"""Image files that are not usable, or that our libraries cannot write, such as odd EXIF blocks and lossless JPEGs."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

EXIF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1}
SRGB_PRIMARIES = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
P3_PRIMARIES = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))


def usable_and_not(folder: Path) -> dict[str, str]:
    """Paths by name: a good picture of 64 px, a small one of 16 px, a file that was cut off, and a missing one."""
    for name, side_px in (("good", 64), ("small", 16)):
        Image.new("RGB", (side_px, side_px), "teal").save(folder / f"{name}.png")
    (folder / "cut.png").write_bytes((folder / "good.png").read_bytes()[:60])
    return {name: str(folder / f"{name}.png") for name in ("good", "small", "cut", "missing")}


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, image_format, **options)
    return content.getvalue()


def left_red_right_blue(size: tuple[int, int] = (60, 40)) -> Image.Image:
    image = Image.new("RGB", size, (220, 20, 20))
    image.paste((20, 20, 220), (size[0] // 2, 0, *size))
    return image


def exif(entries: Sequence[tuple[int, int, bytes]], order: str = "<") -> bytes:
    """An EXIF block with one directory of (tag, type, value) entries, the values padded to their size."""
    directory, data = b"", b""
    start = 8 + 2 + 12 * len(entries) + 4
    for tag, kind, value in entries:
        count = max(1, len(value) // EXIF_SIZES.get(kind, 1))
        if len(value) <= 4:
            field = value.ljust(4, b"\0")
        else:
            field = struct.pack(f"{order}I", start + len(data))
            data += value
        directory += struct.pack(f"{order}HHI", tag, kind, count) + field
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    count_and_end = struct.pack(f"{order}H", len(entries)), struct.pack(f"{order}I", 0)
    return b"Exif\0\0" + head + count_and_end[0] + directory + count_and_end[1] + data


def short(value: int, order: str = "<") -> bytes:
    return struct.pack(f"{order}H", value)


def rgb_profile(primaries: Sequence[Sequence[float]], gamma: float = 2.2) -> bytes:
    """A minimal ICC v2 display profile with these XYZ primaries (D50)."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags = {b"wtpt": _xyz((0.9642, 1.0, 0.8249))}
    for name, primary in zip((b"r", b"g", b"b"), primaries, strict=True):
        tags[name + b"XYZ"] = _xyz(primary)
        tags[name + b"TRC"] = curve
    return _profile(b"RGB ", tags)


def grey_profile(gamma: float) -> bytes:
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    return _profile(b"GRAY", {b"wtpt": _xyz((0.9642, 1.0, 0.8249)), b"kTRC": curve})


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78), **tags}
    table, data, offset = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", offset + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    size = 128 + len(table) + len(data)
    header = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02200000, b"mntr", space, b"XYZ ")
    header += struct.pack(">6H", 2025, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + data


def lossless_jpeg(grey_HW: npt.NDArray[np.uint8]) -> bytes:
    """A grey picture by JPEG's lossless process (ITU-T T.81, annex H), predictor 1."""
    height, width = grey_HW.shape
    counts = [0, 0, 0, 9] + [0] * 12  # the nine difference categories get codes of four bits each
    segments = _segment(0xC3, struct.pack(">BHHB", 8, height, width, 1) + bytes([1, 0x11, 0]))
    segments += _segment(0xC4, bytes([0, *counts, *range(9)]))
    segments += _segment(0xDA, bytes([1, 1, 0, 1, 0, 0]))
    bits = []
    for y in range(height):
        for x in range(width):
            above = int(grey_HW[y - 1, 0]) if y else 128
            difference = int(grey_HW[y, x]) - (int(grey_HW[y, x - 1]) if x else above)
            size = abs(difference).bit_length()
            bits.append(f"{size:04b}")
            if size:
                bits.append(f"{difference if difference > 0 else difference + 2**size - 1:0{size}b}")
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    data = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")
    return b"\xff\xd8" + segments + data + b"\xff\xd9"


def _segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content
