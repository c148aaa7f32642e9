"""The batched changes against those of Pillow, with the same random numbers."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from immr.train.inputs.augmentation import AUGMENTATIONS, Augmentation
from immr.train.inputs.device_augmentation import changed, sheets
from immr.train.inputs.random_numbers import random_numbers

SIDE = 40
STILL = Augmentation(
    smallest_area=1.0, largest_turn_deg=0.0, colour=0.0, erased=0.0, aspect=1.0, mirrored=0.0
)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Smooth pictures of several sizes, as photos are."""
    generator = np.random.default_rng(0)
    sizes = [(56, 56), (56, 75), (90, 56), (60, 110), (41, 41), (70, 62)] * 4
    small = generator.integers(0, 256, (len(sizes), 7, 9, 3), dtype=np.uint8)
    return [
        np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
        for pixels, (height, width) in zip(small, sizes, strict=True)
    ]


def _both(domain: Augmentation, pictures: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """By Pillow and in a batch, (B, S, S, 3)."""
    changes = [
        domain.drawn(picture.shape[1], picture.shape[0], SIDE, random_numbers(seed, [0])[0])
        for seed, picture in enumerate(pictures)
    ]
    expected = [change.applied(picture, SIDE) for change, picture in zip(changes, pictures, strict=True)]
    found = changed(sheets(pictures, changes), SIDE, strokes=domain.stroke > 0)
    return np.stack(expected).astype(float), found.permute(0, 2, 3, 1).double().numpy()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"smallest_area": 0.3, "aspect": 1.5},
        {"mirrored": 1.0},
        {"colour": 0.3},
        {"erased": 1.0},
        {"largest_turn_deg": 25.0, "smallest_area": 0.5},
        {"farthest": 1.5},
        {"stroke": 1.0, "farthest": 1.2},
    ],
    ids=lambda changes: "-".join(changes) or "resized only",
)
def test_each_change_is_that_of_pillow(pictures, changes):
    expected, found = _both(dataclasses.replace(STILL, **changes), pictures)
    difference = np.abs(found - expected)
    assert difference.mean() < 0.6, "of 255"
    assert np.quantile(difference, 0.99) < 4


@pytest.mark.parametrize("domain", [domain for pair in AUGMENTATIONS.values() for domain in pair])
def test_all_changes_together_are_those_of_pillow(pictures, domain):
    expected, found = _both(domain, pictures)
    assert np.abs(found - expected).mean() < 0.8
    assert found.min() >= 0 and found.max() <= 255 and np.array_equal(found, np.floor(found))


def test_what_surrounds_a_picture_on_its_sheet_does_not_matter(pictures):
    domain = AUGMENTATIONS["photos"].photo
    changes = [
        domain.drawn(picture.shape[1], picture.shape[0], SIDE, random_numbers(seed, [0])[0])
        for seed, picture in enumerate(pictures)
    ]
    batch = sheets(pictures, changes)
    together = changed(batch, SIDE, strokes=False)
    alone = [changed(sheets([pictures[n]], [changes[n]]), SIDE, strokes=False)[0] for n in range(6)]
    assert (together[:6] - torch.stack(alone)).abs().mean() < 0.05
