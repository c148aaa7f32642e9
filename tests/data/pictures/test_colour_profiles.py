"""Embedded ICC profiles are applied; pictures without one, or with sRGB, stay as they are."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from immr.data.pictures.picture_files import decode
from tests.support.odd_pictures import P3_PRIMARIES, SRGB_PRIMARIES, encoded, grey_profile, rgb_profile

SWAPPED = rgb_profile(SRGB_PRIMARIES[1:] + SRGB_PRIMARIES[:1])  # its red is our green, and so on
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def colour(content: bytes, min_side_px: int | None = None) -> tuple[int, ...]:
    return decode(content, min_side_px).getpixel((4, 4))  # type: ignore[return-value]


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("min_side_px", [None, 16])
def test_a_profile_is_applied_in_every_format(image_format: str, min_side_px: int | None) -> None:
    red = Image.new("RGB", (64, 64), (250, 5, 5))
    found = colour(encoded(red, image_format, icc_profile=SWAPPED), min_side_px)
    assert found[1] > 240 and max(found[0], found[2]) < 40


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_a_profile_is_applied_to_palettes_and_transparent_pictures(mode: str) -> None:
    picture = Image.new("RGB", (8, 8), (250, 5, 5)).convert(mode)
    found = colour(encoded(picture, "PNG", icc_profile=SWAPPED))
    assert found[1] > 240 and max(found[0], found[2]) < 40


def test_a_wide_gamut_colour_becomes_more_saturated() -> None:
    content = encoded(Image.new("RGB", (8, 8), (200, 80, 80)), "PNG", icc_profile=rgb_profile(P3_PRIMARIES))
    found = colour(content)
    assert found[0] > 204 and found[1] < 78
    with Image.open(io.BytesIO(content)) as image:
        source = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        expected = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"))
    assert expected is not None
    np.testing.assert_allclose(found, expected.getpixel((4, 4)), atol=1)


def test_a_grey_profile_is_applied() -> None:
    assert colour(encoded(Image.new("L", (8, 8), 128), "PNG", icc_profile=grey_profile(1.0)))[0] > 180


@pytest.mark.parametrize("profile", [SRGB, SWAPPED[:200], b"no profile", grey_profile(1.0)])
def test_srgb_broken_and_foreign_profiles_change_nothing(profile: bytes) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    assert decode(encoded(picture, "PNG", icc_profile=profile)).tobytes() == picture.tobytes()
