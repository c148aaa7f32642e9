import pytest
import torch

from immr.errors import RecipeError
from immr.model.encoders.pixel_scaling import PixelScaling, checked_statistics


def test_every_channel_has_its_own_scale() -> None:
    scaling = PixelScaling([0.5, 0.0, 1.0], [0.5, 1.0, 2.0])
    scaled = scaling(torch.ones(2, 3, 4, 4))
    assert scaled[1, :, 3, 3].tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("mean", "std"), [(None, None), ([0.5], [0.5]), ([0, 0, 0], 1.0), ([0, 0, 0], [1, 1])]
)
def test_incomplete_statistics_are_refused(mean: object, std: object) -> None:
    with pytest.raises(RecipeError, match=r"preprocessor_config\.json does not state how pixels are scaled"):
        checked_statistics(mean, std, "preprocessor_config.json")


def test_numbers_become_floats() -> None:
    assert checked_statistics((0, 0, 0), [1, 1, 1], "config") == ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0])
