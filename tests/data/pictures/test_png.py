"""A PNG whose pixels have been damaged on their way is broken, although they often still unpack."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from immr.data.pictures import png
from immr.data.pictures.picture_files import decode
from immr.errors import ImageError
from tests.support.odd_pictures import SRGB_PRIMARIES, encoded, rgb_profile

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


LONG = zlib.compress(bytes(3_000_000))


def with_chunks(*chunks: tuple[bytes, bytes]) -> bytes:
    def number(value: int) -> bytes:
        return struct.pack(">I", value)

    written = (number(len(data)) + name + data + number(zlib.crc32(name + data)) for name, data in chunks)
    return PHOTO[:33] + b"".join(written) + PHOTO[33:]


@pytest.mark.parametrize(
    "chunks",
    [
        [(b"zTXt", b"Comment\0\0" + LONG)],
        [(b"iTXt", b"XML:com.adobe.xmp\0\1\0en\0key\0" + LONG)],
        [(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + bytes(3_000_000))],
        [(b"zTXt", b"c%d\0\0" % number + zlib.compress(bytes(1_000_000))) for number in range(70)],
        [(b"tEXt", b"c%d\0" % number + bytes(1_000_000)) for number in range(70)],
        [(b"iCCP", b"bomb\0\0" + zlib.compress(bytes(20_000_000)))],
    ],
)
def test_long_texts_do_not_change_the_picture(chunks: list[tuple[bytes, bytes]]) -> None:
    assert decode(with_chunks(*chunks)).tobytes() == decode(PHOTO).tobytes()


def test_a_long_colour_profile_still_counts() -> None:
    """A profile may be padded. This one has its channels exchanged, so ignoring it shows."""
    profile = rgb_profile(SRGB_PRIMARIES[1:] + SRGB_PRIMARIES[:1])
    short, long = (
        decode(with_chunks((b"iCCP", b"p\0\0" + zlib.compress(each))))
        for each in (profile, struct.pack(">I", len(profile) + 2**21) + profile[4:] + bytes(2**21))
    )
    assert short.tobytes() == long.tobytes() != decode(PHOTO).tobytes()


def test_short_texts_stay() -> None:
    content = with_chunks((b"zTXt", b"Comment\0\0" + zlib.compress(b"short")), (b"iTXt", b"broken"))
    assert png.without_long_texts(content) == (content, None)
    assert png.without_long_texts(b"GIF89a") == (b"GIF89a", None)
