import numpy as np
import pytest
from PIL import Image, ImageDraw

from immr.model.framing import framed
from immr.model.preprocessing import Preprocessing

SIDE = 64


def _drawing(
    size: tuple[int, int] = (128, 128),
    at: tuple[int, int] = (40, 40),
    side: int = 40,
    ink: str = "black",
    paper: str = "white",
) -> Image.Image:
    """An L, which has no symmetry."""
    picture = Image.new("RGB", size, paper)
    draw, thick = ImageDraw.Draw(picture), side // 4
    left, top = at
    draw.rectangle((left, top, left + thick, top + side), fill=ink)
    draw.rectangle((left, top + side - thick, left + side, top + side), fill=ink)
    return picture


def _ink(picture: Image.Image) -> np.ndarray:
    return np.asarray(framed(picture, SIDE))[:, :, 0].astype(float) / 255


def _agreement(one: Image.Image, other: Image.Image) -> float:
    left, right = _ink(one), _ink(other)
    return float((left * right).sum() / np.sqrt((left**2).sum() * (right**2).sum()))


@pytest.mark.parametrize(
    "other",
    [
        _drawing(ink="yellow", paper="navy"),
        _drawing(at=(8, 70)),
        _drawing(side=80, at=(20, 20)),
        _drawing(size=(300, 128), at=(200, 30)),
        _drawing(size=(1280, 960), at=(400, 300), side=400),
    ],
    ids=["colours", "place", "scale", "wide", "large"],
)
def test_colour_position_and_scale_do_not_matter(other):
    assert _agreement(_drawing(), other) > 0.95


def test_shape_matters():
    assert _agreement(_drawing(), _drawing().transpose(Image.Transpose.FLIP_LEFT_RIGHT)) < 0.6


def test_uneven_light_and_noise_count_as_paper():
    rng = np.random.default_rng(0)
    clean = _drawing(ink="red", paper="green")
    light_HW1 = np.linspace(0.6, 1.2, 128)[:, None, None]
    pixels = np.asarray(clean) * light_HW1 + rng.normal(0, 8, (128, 128, 3))
    photo = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    assert _agreement(clean, photo) > 0.9


@pytest.mark.parametrize("size", [(64, 64), (1, 1), (1, 900), (3, 2)])
def test_a_blank_picture_stays_black(size):
    assert np.asarray(framed(Image.new("RGB", size, "red"), SIDE)).max() == 0


def test_ink_at_the_edge_is_not_cropped():
    ink = _ink(_drawing(at=(0, 60)))
    assert ink[:, :3].max() < 0.5 and ink[:, 5:10].max() > 0.9, "the margin is there, beyond the picture"


def test_a_query_and_a_cached_picture_get_the_same_frame():
    photo = _drawing(size=(400, 300), at=(50, 60), side=120)
    preprocessing = Preprocessing(SIDE, mean=0.0, std=255.0, framing="drawing")
    np.testing.assert_allclose(preprocessing.apply(photo)[0], _ink(photo), atol=1e-6)
    assert preprocessing.enough_px >= 2 * SIDE
    assert preprocessing.hash != Preprocessing(SIDE, mean=0.0, std=255.0).hash
