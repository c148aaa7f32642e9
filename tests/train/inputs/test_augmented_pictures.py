import dataclasses

import numpy as np
import pytest
import torch

from immr.data.sources.locations import Location
from immr.model.features.pixel_shards import ShardStore
from immr.model.preprocessing import Preprocessing
from immr.train.inputs.augmentation import AUGMENTATIONS
from immr.train.inputs.augmented_pictures import DeviceAugmentedPictures, Drawing, HostAugmentedPictures
from immr.train.inputs.batches import BatchPlan
from immr.train.inputs.pictures import Pictures
from immr.train.world import World

PREPROCESSING = Preprocessing(32)


@pytest.fixture(scope="module")
def drawing() -> Drawing:
    rng = np.random.default_rng(0)
    smooth = [np.full((44 + 3 * n, 60 - n, 3), rng.integers(0, 256, 3), dtype=np.uint8) for n in range(9)]
    return Drawing(Pictures.listed(smooth[:6], [*smooth[6:], None]), AUGMENTATIONS["photos"], 32, seed=3)


def _steps():
    plan = BatchPlan(
        photos=6, documents=4, views=1, batch_size=2, document_batch_size=2, seed=0, world=World()
    )
    return list(enumerate(plan.epoch(0)))


def test_batches_on_a_device_are_those_of_pillow(drawing):
    host = HostAugmentedPictures(drawing, PREPROCESSING)
    device = DeviceAugmentedPictures(drawing, PREPROCESSING, torch.device("cpu"))
    for step, rows in _steps():
        expected, found = host(rows, step), device(rows, step)
        assert found.shape == expected.shape == (4, 3, 32, 32)
        assert found.is_contiguous(memory_format=torch.channels_last)
        assert (found - expected).abs().mean() < 1 / PREPROCESSING.std


def test_batches_prepared_ahead_are_the_same_in_the_same_order(drawing):
    alone = DeviceAugmentedPictures(drawing, PREPROCESSING, torch.device("cpu"))
    device = DeviceAugmentedPictures(drawing, PREPROCESSING, torch.device("cpu"))
    seen = []
    for step, rows in device.ahead(_steps()):
        assert torch.equal(device(rows, step), alone(rows, step))
        seen.append(step)
    assert seen == [0, 1, 2]


def test_a_loop_that_ends_early_leaves_nothing_behind(drawing):
    device = DeviceAugmentedPictures(drawing, PREPROCESSING, torch.device("cpu"))
    coming = device.ahead(_steps())
    next(coming)
    coming.close()
    assert not device._batches._ready


def test_an_error_while_preparing_ends_the_loop(drawing):
    broken = Drawing(Pictures.listed([], []), drawing.augmentations, 32, seed=0)
    device = DeviceAugmentedPictures(broken, PREPROCESSING, torch.device("cpu"))
    with pytest.raises(IndexError):
        for step, rows in device.ahead(_steps()):
            device(rows, step)


def test_pictures_from_shards_give_the_same_batches(drawing, tmp_path):
    pixels = drawing.pictures.pixels
    keys = [f"{row:064x}" for row in range(len(pixels))]
    store = ShardStore(Location.of(tmp_path))
    store.add(dict(zip(keys, pixels, strict=True)))
    stored = dataclasses.replace(
        drawing, pictures=dataclasses.replace(drawing.pictures, pixels=store.rows(keys))
    )
    expected = HostAugmentedPictures(drawing, PREPROCESSING)
    host = HostAugmentedPictures(stored, PREPROCESSING)
    for step, rows in host.ahead(_steps()):
        assert torch.equal(host(rows, step), expected(rows, step))
