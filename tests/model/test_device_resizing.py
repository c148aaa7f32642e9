import numpy as np
import pytest
import torch
from PIL import Image

from immr.model.device_resizing import resized


@pytest.mark.parametrize("side", [24, 90])
def test_crops_of_a_batch_are_those_of_pillow(side):
    rng = np.random.default_rng(0)
    sizes, boxes = [(50, 70), (64, 41)], [(3.5, 1.0, 50.0, 47.5), (0.0, 0.0, 41.0, 64.0)]
    pictures = [
        Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((width, height))
        for height, width in sizes
    ]
    pixels_23HW = torch.zeros(2, 3, 64, 70)
    for sheet_3HW, picture in zip(pixels_23HW, pictures, strict=True):
        sheet_3HW[:, : picture.height, : picture.width] = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    found = resized(pixels_23HW, torch.tensor(boxes), torch.tensor(sizes, dtype=torch.float32), side)
    expected = [
        np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC, box=box))
        for picture, box in zip(pictures, boxes, strict=True)
    ]
    difference = found.round().clamp(0, 255).permute(0, 2, 3, 1).numpy() - np.stack(expected)
    assert np.abs(difference).mean() < 0.5, "of 255"
    assert np.abs(difference).max() <= 3
