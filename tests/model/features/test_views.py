from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from immr.errors import RecipeError
from immr.model.features.views import document_view_names, take_view, view_names
from immr.model.framing import framed
from immr.model.model_recipe import ModelRecipe


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


def test_a_drawing_has_three_views_for_its_document():
    assert document_view_names(ModelRecipe(document_views=3)) == view_names(3)
    drawings = ModelRecipe(framing="drawing", document_views=3)
    assert document_view_names(drawings) == ["fit", "turn+8", "turn-8"]
    with pytest.raises(RecipeError, match="a drawing has 3 views"):
        replace(drawings, document_views=4)


def test_a_drawing_is_turned_without_losing_ink():
    drawing = Image.new("RGB", (100, 100), "white")
    ImageDraw.Draw(drawing).rectangle((10, 45, 90, 55), fill="navy")
    straight = np.asarray(framed(drawing, 64))[..., 0]
    turned = {name: take_view(drawing, name, "a" * 64, 64) for name in ("turn+8", "turn-8")}
    for name, left_end in (("turn+8", "lower"), ("turn-8", "upper")):
        ink_HW = np.asarray(framed(turned[name], 64))[..., 0] > 128
        left, right = (
            np.flatnonzero(ink_HW[:, half].any(1)).mean() for half in (slice(0, 12), slice(52, 64))
        )
        assert (left > right) == (left_end == "lower"), "turned around its centre"
        assert ink_HW.sum() == pytest.approx((straight > 128).sum(), rel=0.25)
