"""Photos are rotated upright, despite any other metadata."""

import io
import struct
import zlib

import pytest
from PIL import Image, ImageOps, PngImagePlugin

from immr.data.pictures.orientation import orientation_of
from immr.data.pictures.picture_files import decode
from tests.support.odd_pictures import EXIF_SIZES, encoded, exif, left_red_right_blue, short

ORIENTATION = 0x0112
TAGS = [
    0x0100,
    0x0101,
    0x0106,
    0x010E,
    0x0110,
    0x011A,
    0x0131,
    0x0132,
    0x0213,
    0x8298,
    0x8769,
    0x8825,
    0xC4A5,
]
XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" {}</rdf:RDF></x:xmpmeta>"""


def is_turned_right(content: bytes) -> bool:
    """Whether the left half, red, is on top, as orientation 6 demands."""
    image = decode(content)
    red, _, blue = image.getpixel((20, 5))  # type: ignore[misc]
    return image.size == (40, 60) and red > 150 and blue < 100


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", EXIF_SIZES)
def test_other_tags_of_any_type_do_not_prevent_rotation(kind: int, order: str) -> None:
    photo = left_red_right_blue()
    for tag in TAGS:
        for value in (b"\xff\xff\xff\xff", b"\xff" * 16, b"\0", bytes(EXIF_SIZES[kind])):
            entries = sorted([(tag, kind, value), (ORIENTATION, 3, short(6, order))])
            assert orientation_of({"exif": exif(entries, order)}) == 6
    assert is_turned_right(encoded(photo, "JPEG", exif=exif(entries, order)))


@pytest.mark.parametrize(
    ("kind", "value"),
    [(1, b"\6"), (3, short(6)), (4, struct.pack("<I", 6)), (8, short(6)), (9, struct.pack("<i", 6))],
)
def test_the_orientation_may_be_any_kind_of_integer(kind: int, value: bytes) -> None:
    assert orientation_of({"exif": exif([(ORIENTATION, kind, value)])}) == 6


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_invalid_orientation_means_upright(value: int) -> None:
    assert orientation_of({"exif": exif([(ORIENTATION, 3, short(value))])}) == 1


def test_a_truncated_exif_block_is_read_as_far_as_possible() -> None:
    block = exif([(0x0100, 4, bytes(4)), (ORIENTATION, 3, short(6)), (0x0131, 2, b"camera")])
    found = [orientation_of({"exif": block[:length]}) for length in range(len(block))]
    assert set(found) == {1, 6} and found == sorted(found)


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_all_eight_orientations_are_those_of_pillow(image_format: str, value: int) -> None:
    photo = left_red_right_blue()
    photo.paste((20, 220, 20), (0, 0, 10, 10))
    content = encoded(photo, image_format, exif=exif([(ORIENTATION, 3, short(value))]), quality=100)
    ours = decode(content)
    with Image.open(io.BytesIO(content)) as image:
        theirs = ImageOps.exif_transpose(image).convert("RGB")
    assert ours.size == theirs.size
    assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize(
    "description", ['tiff:Orientation="6"/>', "><tiff:Orientation>6</tiff:Orientation></rdf:Description>"]
)
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_xmp_is_read_if_there_is_no_exif(image_format: str, description: str) -> None:
    xmp = XMP.format(description)
    options: dict[str, object] = {"xmp": xmp.encode()}
    if image_format == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp)
        options = {"pnginfo": text}
    assert is_turned_right(encoded(left_red_right_blue(), image_format, **options))


def test_exif_takes_precedence_over_xmp() -> None:
    upright = exif([(ORIENTATION, 3, short(1))])
    xmp = XMP.format('tiff:Orientation="6"/>').encode()
    assert orientation_of({"exif": upright, "xmp": xmp}) == 1


@pytest.mark.parametrize("name", ["exif", "APP1"])
def test_a_png_may_carry_exif_as_a_raw_profile(name: str) -> None:
    block = exif([(ORIENTATION, 3, short(6))])
    text = PngImagePlugin.PngInfo()
    text.add_text(f"Raw profile type {name}", f"\n{name}\n{len(block):8d}\n{block.hex()}\n", zip=True)
    assert is_turned_right(encoded(left_red_right_blue(), "PNG", pnginfo=text))


def test_a_png_may_carry_exif_after_its_pixels() -> None:
    content = encoded(left_red_right_blue(), "PNG")
    block = b"eXIf" + exif([(ORIENTATION, 3, short(6))]).removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(block) - 4) + block + struct.pack(">I", zlib.crc32(block))
    assert is_turned_right(content[:-12] + chunk + content[-12:])
