"""A PNG whose pixels have been damaged on their way is broken, although they often still unpack."""

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from immr.data.pictures import png
from immr.data.pictures.picture_files import decode
from immr.errors import ImageError
from tests.support.odd_pictures import encoded

random = np.random.default_rng(0)
SMOOTH = random.normal(0, 4, (200, 200, 3)).cumsum(0).cumsum(1)
PHOTO = encoded(Image.fromarray((SMOOTH % 256).astype(np.uint8)), "PNG")


def holes(place: int) -> bytes:
    return PHOTO[:place] + bytes(64) + PHOTO[place + 64 :]


def flipped(place: int) -> bytes:
    return PHOTO[:place] + bytes([PHOTO[place] ^ 4]) + PHOTO[place + 1 :]


def ends_in_zeros(place: int) -> bytes:
    return PHOTO[:place] + bytes(len(PHOTO) - place)


@pytest.mark.parametrize("damage", [holes, flipped, ends_in_zeros])
def test_damaged_pixels_are_never_a_picture(damage) -> None:  # type: ignore[no-untyped-def]
    for place in random.integers(60, len(PHOTO) - 80, 60).tolist():
        with pytest.raises(ImageError, match="broken"):
            decode(damage(place), min_side_px=64)


def test_chunks_that_do_not_change_the_picture_may_be_damaged() -> None:
    texts = PngInfo()
    texts.add_text("note", "unimportant")
    content = encoded(Image.new("RGB", (40, 40), "teal"), "PNG", pnginfo=texts).replace(b"unimp", b"UNIMP")
    assert png.damaged_chunk(content) == ""


def test_the_damaged_chunk_is_named() -> None:
    content = encoded(Image.new("P", (40, 40)), "PNG")
    place = content.index(b"PLTE") + 4
    assert png.damaged_chunk(content) == ""
    assert png.damaged_chunk(content[:place] + b"\x77" + content[place + 1 :]) == "PLTE"


@pytest.mark.parametrize("length", [0, 8, 9, 20, 33, 40, 60])
def test_what_is_cut_off_is_not_judged_here(length: int) -> None:
    assert png.damaged_chunk(PHOTO[:length]) == ""
