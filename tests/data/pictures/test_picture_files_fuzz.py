"""Any bytes are a picture or an ImageError, and cost a bounded amount of memory."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from immr.data.pictures.picture_files import FORMATS, decode
from immr.errors import ImageError

MAX_PIXELS = 40_000
MAX_GROWTH_KB = 32 * 1024


def encoded(image_format: str, mode: str = "RGB", **options: object) -> bytes:
    content = io.BytesIO()
    image = Image.radial_gradient("L").resize((61, 47)).convert(mode)
    image.save(content, image_format, **options)
    return content.getvalue()


PICTURES = [encoded(name) for name in FORMATS] + [
    encoded("PNG", "P"),
    encoded("PNG", "RGBA"),
    encoded("JPEG", "CMYK"),
    encoded("JPEG", progressive=True),
    encoded("JPEG", "L", restart_marker_blocks=1),
    encoded("PNG", "I;16"),
    encoded("PNG", "LA", exif=Image.Exif()),
    *(
        encoded(name, save_all=True, append_images=[Image.new("RGB", (61, 47), "teal")])
        for name in ("GIF", "WEBP", "PNG", "MPO")
    ),
]
MAGIC = [picture[:16] for picture in PICTURES]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A real picture with bytes changed, removed or inserted."""
    content = bytearray(draw(st.sampled_from(PICTURES)))
    for _ in range(draw(st.integers(1, 8))):
        place = draw(st.integers(0, len(content)))
        piece = draw(st.binary(max_size=12))
        match draw(st.sampled_from(("change", "insert", "cut", "end"))):
            case "change":
                content[place : place + len(piece)] = piece
            case "insert":
                content[place:place] = piece
            case "cut":
                del content[place : place + draw(st.integers(1, 200))]
            case _:
                del content[place:]
    return bytes(content)


ANY_BYTES = st.one_of(
    damaged(),
    st.binary(max_size=400),
    st.builds(bytes.__add__, st.sampled_from(MAGIC), st.binary(max_size=400)),
)


@settings(max_examples=400)
@given(ANY_BYTES, st.sampled_from([None, 32]))
def test_any_bytes_are_a_picture_or_an_image_error(content: bytes, min_side_px: int | None) -> None:
    try:
        picture = decode(content, min_side_px, max_pixels=MAX_PIXELS)
    except ImageError as error:
        assert str(error)
        return
    assert picture.mode == "RGB"
    assert 0 < picture.width * picture.height <= MAX_PIXELS


@settings(max_examples=300)
@given(st.sampled_from([picture for picture in PICTURES if picture.startswith(b"\x89PNG")]), st.data())
def test_a_damaged_png_is_the_same_picture_or_an_error(content: bytes, data: st.DataObject) -> None:
    """Its checksums show every change of its pixels."""
    place = data.draw(st.integers(8, len(content) - 1))
    changed = (
        content[:place] + bytes([content[place] ^ data.draw(st.integers(1, 255))]) + content[place + 1 :]
    )
    with suppress(ImageError):
        assert decode(changed).tobytes() == decode(content).tobytes()


MEASURE = """
import random, resource
from immr.data.pictures.picture_files import decode
from immr.errors import ImageError
from tests.data.pictures.test_picture_files_fuzz import MAX_PIXELS, PICTURES
dice = random.Random(0)
for picture in PICTURES:
    decode(picture, max_pixels=MAX_PIXELS)
before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(3000):
    content = bytearray(dice.choice(PICTURES))
    for _ in range(dice.randint(1, 6)):
        content[dice.randrange(min(len(content), 200))] = dice.randrange(256)  # sizes stand in the header
    try:
        decode(bytes(content), max_pixels=MAX_PIXELS)
    except ImageError:
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb)
"""


def test_no_input_needs_more_memory_than_the_pixel_limit_allows() -> None:
    """In a separate process, because Python does not count Pillow's memory."""
    measured = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    assert int(measured.stdout) < MAX_GROWTH_KB
