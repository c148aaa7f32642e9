import dataclasses

import numpy as np
from PIL import Image

from immr.model.preprocessing import Preprocessing


def test_pixels_are_scaled_and_channels_come_first() -> None:
    pixels_3SS = Preprocessing(32, mean=127.0, std=128.0).apply(Image.new("RGB", (90, 60), (255, 127, 0)))
    assert pixels_3SS.shape == (3, 32, 32)
    assert pixels_3SS.dtype == np.float32
    np.testing.assert_allclose(pixels_3SS[:, 16, 16], [1.0, 0.0, -127 / 128])


def test_a_picture_is_cropped_to_its_centre() -> None:
    picture = Image.new("RGB", (300, 100), "black")
    picture.paste("white", (100, 0, 200, 100))
    assert Preprocessing(32, mean=0.0, std=255.0).apply(picture).min() > 0.9


def test_the_hash_changes_with_every_parameter() -> None:
    preprocessing = Preprocessing(32)
    changed = [
        dataclasses.replace(preprocessing, **change)
        for change in ({"image_size_px": 64}, {"mean": 0.0}, {"std": 1.0})
    ]
    assert len({each.hash for each in (preprocessing, *changed)}) == 4
