import numpy as np
import pytest
from PIL import Image, ImageOps

from immr.errors import RecipeError
from immr.model.features.views import take_view, view_names


@pytest.fixture
def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8))


def test_the_first_view_is_the_one_served():
    assert view_names(1) == ["fit"]
    assert view_names(4) == ["fit", "flip", "crop-1", "crop-2"]
    with pytest.raises(RecipeError, match="choose 1 or more"):
        view_names(0)


def test_views_depend_only_on_the_content(image):
    one, again, other = (take_view(image, "crop-1", key, 32) for key in ("a" * 64, "a" * 64, "b" * 64))
    assert one.size == (32, 32)
    assert one.tobytes() == again.tobytes() != other.tobytes()
    assert take_view(image, "crop-2", "a" * 64, 32).tobytes() != one.tobytes()


def test_fit_is_the_picture_and_flip_its_mirror_image(image):
    assert take_view(image, "fit", "a" * 64, 32) is image
    assert take_view(image, "flip", "a" * 64, 32).tobytes() == ImageOps.mirror(image).tobytes()


def test_crops_of_a_single_pixel_work():
    assert take_view(Image.new("RGB", (1, 1)), "crop-3", "c" * 64, 8).size == (8, 8)
