"""Per-channel scaling of pixels, as part of an encoder's graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from immr.errors import RecipeError


class PixelScaling(nn.Module):
    """(x − mean) / deviation for pixels in 0…1, with one mean and deviation per channel.

    Inside the graph, so that serving needs no knowledge of the encoder beyond its input size.
    """

    mean_131: Tensor
    std_131: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.register_buffer("mean_131", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std_131", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, pixels_B3SS: Tensor) -> Tensor:
        """(B, 3, S, S)."""
        return (pixels_B3SS - self.mean_131) / self.std_131


def checked_statistics(mean: object, std: object, source: str) -> tuple[list[float], list[float]]:
    """Mean and deviation of three channels.

    Raises:
        RecipeError: they are not three numbers each; `source` says where they should be.
    """
    if not (isinstance(mean, list | tuple) and isinstance(std, list | tuple) and len(mean) == len(std) == 3):
        raise RecipeError(
            f"{source} does not state how pixels are scaled: it needs a mean and a standard deviation for each of "
            "the three channels, as published with the model"
        )
    return [float(value) for value in mean], [float(value) for value in std]
