"""White behind transparency, bit depths, and frames that do not fill the picture."""

import io
import struct
import zlib

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from immr.data.pictures.picture_files import decode
from tests.support.odd_pictures import encoded

WHITE = (255, 255, 255)


def png(rows: bytes, width: int, depth: int, colour: int, transparent: bytes = b"") -> bytes:
    """A PNG in a form that Pillow does not write. `rows` begin with their filter byte."""
    height = 8
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)]
    if transparent:
        chunks.append(b"tRNS" + transparent)
    chunks += [b"IDAT" + zlib.compress(rows * height), b"IEND"]
    framed = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def row(content: bytes, min_side_px: int | None = None) -> list[tuple[int, ...]]:
    """The pixels of the middle row."""
    image = decode(content, min_side_px)
    return [image.getpixel((x, image.height // 2)) for x in range(image.width)]  # type: ignore[misc]


def test_a_dark_16_bit_picture_stays_dark() -> None:
    dark = Image.fromarray(np.full((8, 8), 200, dtype=np.uint16))
    assert decode(encoded(dark, "PNG")).getpixel((4, 4)) == (0, 0, 0)


def test_16_bit_grey_with_a_transparent_colour() -> None:
    content = png(b"\0" + struct.pack(">4H", 0x8000, 0x8001, 0xFFFF, 0), 4, 16, 0, struct.pack(">H", 0x8001))
    assert row(content) == [(127,) * 3, WHITE, WHITE, (0, 0, 0)]


@pytest.mark.parametrize(("depth", "bits", "key"), [(1, 0b0101_0000, 1), (2, 0b0011_0110, 3), (4, 0xF0, 0xF)])
def test_few_bit_grey_with_a_transparent_colour(depth: int, bits: int, key: int) -> None:
    """The key is given in the file's own depth: 3 is the white of two bits."""
    width = 8 // depth if depth > 1 else 4
    plain = row(png(bytes([0, bits]), width, depth, 0))
    keyed = row(png(bytes([0, bits]), width, depth, 0, struct.pack(">H", 0)))
    assert (0, 0, 0) in plain and (0, 0, 0) not in keyed
    assert row(png(bytes([0, bits]), width, depth, 0, struct.pack(">H", key))) == plain  # white either way


def test_16_bit_rgb_with_a_transparent_colour() -> None:
    pixels = struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 0x2000, 0x3000, 0x4000)
    content = png(b"\0" + pixels, 2, 16, 2, pixels[:6])
    assert row(content) == [WHITE, (0x20, 0x30, 0x40)]


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("colour", [4, 6])
def test_an_alpha_channel_is_composed_with_white(colour: int, depth: int) -> None:
    channels = 1 if colour == 4 else 3
    full, half, none = ({8: v, 16: v * 257}[depth] for v in (255, 128, 0))
    values = [x for alpha in (full, half, none) for x in [0] * channels + [alpha]]
    content = png(
        b"\0" + struct.pack(f">{len(values)}{'B' if depth == 8 else 'H'}", *values), 3, depth, colour
    )
    assert row(content) == [(0, 0, 0), (127,) * 3, WHITE]


def test_a_palette_with_alpha_values() -> None:
    image = Image.new("P", (4, 4))
    image.putpalette([0, 0, 0] * 256)
    image.putdata([0, 1, 2, 3] * 4)
    found = row(encoded(image, "PNG", transparency=bytes([255, 128, 0, 255])))
    assert found == [(0, 0, 0), (127,) * 3, WHITE, (0, 0, 0)]


def test_invisible_pixels_do_not_bleed_when_downscaled() -> None:
    pixels = np.zeros((400, 400, 4), dtype=np.uint8)  # invisible black
    pixels[:, 200:] = (255, 255, 255, 255)
    found = decode(encoded(Image.fromarray(pixels), "PNG"), min_side_px=50)
    assert np.asarray(found).min() == 255


@pytest.mark.parametrize("transparent", [False, True])
def test_the_area_outside_a_small_first_gif_frame_is_white(transparent: bool) -> None:
    red = encoded(
        Image.new("RGB", (10, 10), (255, 0, 0)), "GIF", **({"transparency": 9} if transparent else {})
    )
    canvas = bytearray(red)
    canvas[6:10] = struct.pack("<HH", 40, 20)  # the logical screen
    place = canvas.index(b"\x2c") + 1
    canvas[place : place + 4] = struct.pack("<HH", 20, 5)
    image = decode(bytes(canvas))
    assert image.size == (40, 20)
    assert image.getpixel((25, 10))[0] > 250 and image.getpixel((25, 10))[2] < 5  # type: ignore[index]
    assert {image.getpixel(place) for place in ((0, 0), (19, 10), (31, 10), (25, 2), (39, 19))} == {WHITE}
    smaller = decode(bytes(canvas), min_side_px=5)
    assert smaller.getpixel((0, 0)) == WHITE and smaller.getpixel((6, 2))[2] < 5  # type: ignore[index]


def bmp(alphas: bytes, header_bytes: int) -> bytes:
    """A BMP with an alpha channel: a row of blue pixels, which all rows repeat."""
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    rows = b"".join(b"\xc8\x3c\x1e" + bytes([alpha]) for alpha in alphas) * 8
    header = struct.pack("<IiiHHIIiiII", header_bytes, len(alphas), 8, 1, 32, 3, len(rows), 2835, 2835, 0, 0)
    header = (header + masks).ljust(header_bytes, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(rows), 0, 0, 14 + len(header)) + header + rows


@pytest.mark.parametrize("header_bytes", [56, 108, 124])
def test_a_bmp_that_is_transparent_everywhere_is_shown_as_in_browsers(header_bytes: int) -> None:
    """It was white, because the programs that write it leave its alpha channel at 0."""
    assert row(bmp(bytes([0, 0]), header_bytes)) == [(30, 60, 200)] * 2
    assert row(bmp(bytes([0, 255]), header_bytes)) == [WHITE, (30, 60, 200)]


def on_white(content: bytes) -> npt.NDArray[np.uint8]:
    """The reference: composed in memory at full size."""
    with Image.open(io.BytesIO(content)) as image:
        front = image.convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", front.size, "white"), front).convert("RGB"))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA", "1"])
def test_bands_make_no_difference(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("immr.data.pictures.pixel_formats._BAND_PIXELS", 500)
    noise = np.random.default_rng(0).integers(0, 256, (61, 47, 4), dtype=np.uint8)
    content = encoded(Image.fromarray(noise).convert(mode if mode != "PA" else "P"), "PNG")
    assert np.array_equal(np.asarray(decode(content)), on_white(content))
