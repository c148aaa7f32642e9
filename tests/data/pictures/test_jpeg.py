"""JPEGs without an end marker, and those that cannot be decoded at a reduced size."""

import itertools
import re
import struct

import numpy as np
import pytest
from PIL import Image

from immr.data.pictures import jpeg
from immr.data.pictures.picture_files import decode
from immr.errors import ImageError
from tests.support.odd_pictures import encoded, left_red_right_blue, lossless_jpeg

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (160, 240, 3), dtype=np.uint8))
KINDS = [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 0, "quality": 95}]


@pytest.mark.parametrize("min_side_px", [None, 32])
@pytest.mark.parametrize("options", KINDS)
def test_a_picture_without_only_its_end_marker_is_complete(
    options: dict[str, object], min_side_px: int | None
) -> None:
    content = encoded(NOISE, "JPEG", **options)
    whole = decode(content, min_side_px).tobytes()
    for ending in (content[:-2], content[:-1], content[:-2] + bytes(100)):
        assert decode(ending, min_side_px).tobytes() == whole


@pytest.mark.parametrize("min_side_px", [None, 32])
@pytest.mark.parametrize("options", [kind for kind in KINDS if "progressive" not in kind])
@pytest.mark.parametrize("lost", [10, 40, 400, 4000])
def test_a_picture_with_missing_lines_is_broken_at_any_size(
    options: dict[str, object], min_side_px: int | None, lost: int
) -> None:
    with pytest.raises(ImageError, match="truncated"):
        decode(encoded(NOISE, "JPEG", **options)[:-lost], min_side_px)


def declaring(content: bytes, height: int) -> bytes:
    """The same JPEG with another height in its frame header, not that of its thumbnail."""
    [*_, header] = re.finditer(rb"\xff[\xc0\xc2]\0[\x0b\x11\x14]\x08", content)
    place = header.end()
    return content[:place] + struct.pack(">H", height) + content[place + 2 :]


@pytest.mark.parametrize("min_side_px", [None, 32])
@pytest.mark.parametrize("height", [168, 400])
@pytest.mark.parametrize(
    ("mode", "options"),
    [*itertools.product(["RGB", "L", "CMYK"], KINDS), ("RGB", {"progressive": True, "exif": True})],
)
def test_a_picture_that_declares_more_lines_than_it_has_is_broken(
    mode: str, options: dict[str, object], height: int, min_side_px: int | None
) -> None:
    """Its end was grey, without an error."""
    if "exif" in options:  # with a thumbnail, which has markers of its own
        options = {**options, "exif": b"Exif\0\0" + encoded(NOISE.resize((24, 16)), "JPEG")}
    content = encoded(NOISE.convert(mode), "JPEG", **options)
    with pytest.raises(ImageError, match="lines are missing at the end"):
        decode(declaring(content, height), min_side_px)


@pytest.mark.parametrize("min_side_px", [None, 32])
@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
@pytest.mark.parametrize("options", KINDS)
def test_a_picture_may_end_in_grey(options: dict[str, object], mode: str, min_side_px: int | None) -> None:
    grey = NOISE.convert(mode)
    grey.paste((128,) * len(grey.getbands()), (0, 80, *NOISE.size))
    content = encoded(grey, "JPEG", **options)
    picture = decode(content, min_side_px)
    assert mode == "CMYK" or picture.getpixel((picture.width - 1, picture.height - 1)) == (128, 128, 128)
    assert decode(content + b"\0more", min_side_px) == decode(content, min_side_px)


@pytest.mark.parametrize("min_side_px", [None, 20])
def test_a_lossless_jpeg_is_read_unchanged(min_side_px: int | None) -> None:
    grey = np.tile(np.arange(120, dtype=np.uint8) * 2, (100, 1))
    content = lossless_jpeg(grey)
    assert jpeg.is_lossless(content)
    image = decode(content, min_side_px)
    if min_side_px is None:
        assert np.array_equal(np.asarray(image)[..., 0], grey)
    assert abs(np.asarray(image).mean() - grey.mean()) < 1


def test_only_sequential_dct_is_streamed() -> None:
    sequential = encoded(left_red_right_blue(), "JPEG")
    assert jpeg.is_streamed(sequential)
    assert not jpeg.is_streamed(encoded(left_red_right_blue(), "JPEG", progressive=True))
    assert not jpeg.is_streamed(lossless_jpeg(np.zeros((8, 8), dtype=np.uint8)))
    assert not jpeg.is_streamed(sequential[:20])


@pytest.mark.parametrize("min_side_px", [None, 32])
@pytest.mark.parametrize("part", [0.5, 0.9])
@pytest.mark.parametrize("options", [*KINDS, {"quality": 98, "optimize": True}])
def test_zeros_in_place_of_the_missing_lines_are_no_lines(
    options: dict[str, object], part: float, min_side_px: int | None
) -> None:
    content = encoded(NOISE, "JPEG", **options)
    written = round(len(content) * part)
    with pytest.raises(ImageError, match="truncated"):
        decode(content[:written] + bytes(len(content) - written), min_side_px)


@pytest.mark.parametrize("picture", [NOISE, Image.new("RGB", (800, 800), "white")])
@pytest.mark.parametrize("options", [*KINDS, {"optimize": True}])
def test_zeros_behind_the_end_are_harmless(picture: Image.Image, options: dict[str, object]) -> None:
    content = encoded(picture, "JPEG", **options)
    assert decode(content + bytes(1000)).tobytes() == decode(content).tobytes()


def of_many_scans(scans: int, side_px: int = 5000) -> bytes:
    """A progressive JPEG that a decoder passes over so often, of 10 bytes each."""
    content = encoded(Image.new("L", (64, 64), 90), "JPEG", progressive=True)
    size = content.index(b"\xff\xc2") + 5
    content = content[:size] + struct.pack(">HH", side_px, side_px) + content[size + 4 :]
    table = b"\xff\xc4\0\x14\x10\1" + bytes(15) + b"\xe0"
    first, later = b"\xff\xda\0\x08\1\1\0\0\0\0" + bytes(8), b"\xff\xda\0\x08\1\1\0\1\x3f\0"
    return content[: content.index(b"\xff\xda")] + first + table + later * (scans - 1) + b"\xff\xd9"


def test_a_jpeg_of_many_scans_is_refused_without_passing_over_it() -> None:
    """10 KB took four seconds, and 10 MB an hour."""
    content = of_many_scans(5000)
    with pytest.raises(
        ImageError, match=r"a JPEG of 5,000 scans, more than the limit of 100: export it again"
    ):
        decode(content, 224)
    assert jpeg.scans(of_many_scans(100)) == 100


def test_scans_of_other_pictures_in_the_file_do_not_count() -> None:
    thumbnail = encoded(NOISE.resize((32, 32)), "JPEG", progressive=True)
    content = encoded(NOISE, "JPEG", progressive=True)
    preview = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    assert jpeg.scans(content) == jpeg.scans(content[:2] + preview + content[2:] + content) == 10


def in_a_scan_per_component(side_px: int) -> bytes:
    """A baseline JPEG, of which a decoder keeps all coefficients until the last scan."""
    content = encoded(Image.new("RGB", (16, 16)), "JPEG", subsampling=0)
    size = content.index(b"\xff\xc0") + 5
    content = content[:size] + struct.pack(">HH", side_px, side_px) + content[size + 4 :]
    scans = [bytes([0xFF, 0xDA, 0, 8, 1, number, 0x11 * (number > 1), 0, 63, 0]) for number in (1, 2, 3)]
    return content[: content.index(b"\xff\xda")] + b"".join(scan + bytes(30) for scan in scans) + b"\xff\xd9"


def test_a_baseline_jpeg_of_several_scans_is_in_memory_as_a_whole() -> None:
    assert jpeg.is_streamed(encoded(NOISE, "JPEG"))
    assert not jpeg.is_streamed(in_a_scan_per_component(100))
    with pytest.raises(ImageError, match="6000×6000 pixels, more than the limit of 32,000,000"):
        decode(in_a_scan_per_component(6000), 224)
