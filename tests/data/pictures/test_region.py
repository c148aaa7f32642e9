"""Regions of pictures, widened to squares."""

import pytest
from PIL import Image

from immr.data.pictures.region import cropped
from immr.types import Region


@pytest.mark.parametrize(
    ("size", "region", "corner", "cut"),
    [
        ((200, 100), Region(0, 0, 1, 1), (0, 0), (200, 100)),
        ((200, 100), Region(0.25, 0, 0.5, 1), (50, 0), (100, 100)),
        ((200, 200), Region(0.4, 0.1, 0.2, 0.6), (40, 20), (120, 120)),  # widened on both sides
        ((200, 200), Region(0, 0, 0.1, 0.5), (0, 0), (100, 100)),  # the left edge is near
        ((200, 200), Region(0.9, 0.9, 0.1, 0.1), (180, 180), (20, 20)),
        ((20, 400), Region(0, 0.5, 1, 0.5), (0, 200), (20, 200)),  # as wide as the picture allows
        ((3, 3), Region(0.5, 0.5, 0.001, 0.001), (1, 1), (1, 1)),
    ],
)
def test_a_region_is_widened_to_a_square_within_the_picture(size, region, corner, cut):
    image = Image.new("RGB", size)
    image.putpixel(corner, (255, 0, 0))
    part = cropped(image, region)
    assert part.size == cut
    assert part.getpixel((0, 0)) == (255, 0, 0)
