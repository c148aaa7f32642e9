import dataclasses

import numpy as np
import pytest

from immr.train.inputs.augmentation import AUGMENTATIONS, Augmentation, recoloured
from immr.train.inputs.random_numbers import random_numbers


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


@pytest.mark.parametrize("domain", [domain for pair in AUGMENTATIONS.values() for domain in pair])
def test_the_same_seed_gives_the_same_square(domain, picture):
    one, again, other = (domain.apply(picture, 32, random_numbers(seed, [0])[0]) for seed in (1, 1, 2))
    assert one.shape == (32, 32, 3) and one.dtype == np.uint8
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_without_changes_the_result_is_the_picture_or_its_mirror_image():
    square = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    plain = Augmentation(smallest_area=1.0, largest_turn_deg=0.0, colour=0.0, erased=0.0, aspect=1.0)
    for seed in range(4):
        came_out = plain.apply(square, 32, random_numbers(seed, [0])[0])
        assert np.array_equal(came_out, square) or np.array_equal(came_out, square[:, ::-1])


def test_contrast_scales_around_the_mean_before_the_matrix(picture):
    unchanged = recoloured(picture, np.eye(3, dtype=np.float32), contrast=1.0)
    np.testing.assert_allclose(unchanged, picture, atol=1)
    flat = recoloured(picture, np.eye(3, dtype=np.float32), contrast=0.0)
    np.testing.assert_allclose(flat, np.broadcast_to(picture.mean((0, 1)), picture.shape), atol=1)
    dark = recoloured(picture, 0.5 * np.eye(3, dtype=np.float32), contrast=1.0)
    np.testing.assert_allclose(dark, picture / 2, atol=1)


def test_erasing_hides_a_rectangle_of_every_photo():
    white = np.full((40, 40, 3), 255, dtype=np.uint8)
    hidden = Augmentation(smallest_area=1.0, largest_turn_deg=0.0, colour=0.0, erased=1.0)
    for seed in range(5):
        came_out = hidden.apply(white, 40, random_numbers(seed, [0])[0])
        share = (came_out != 255).any(2).mean()
        assert 0.01 < share < 0.25


def test_drawings_are_never_mirrored_and_may_be_shrunk_with_thicker_strokes():
    white_left = np.zeros((40, 40, 3), dtype=np.uint8)
    white_left[8:32, 8:20] = 255
    domain = AUGMENTATIONS["drawings"].photo
    results = [domain.apply(white_left, 32, random_numbers(seed, [0])[0]) for seed in range(30)]
    assert all(result[:, :16].mean() > result[:, 16:].mean() for result in results), "none is mirrored"
    still = dataclasses.replace(domain, smallest_area=1.0, aspect=1.0, largest_turn_deg=0.0, colour=0.0)
    inked = [
        (
            dataclasses.replace(still, **change).apply(white_left, 40, random_numbers(seed, [0])[0]) > 128
        ).mean()
        for change in ({"farthest": 1.0, "stroke": 0.0}, {"stroke": 0.0}, {"farthest": 1.0, "stroke": 1.0})
        for seed in range(8)
    ]
    plain, shrunk, thickened = inked[:8], inked[8:16], inked[16:]
    assert len(set(plain)) == 1
    assert min(shrunk) < plain[0] < max(thickened)
