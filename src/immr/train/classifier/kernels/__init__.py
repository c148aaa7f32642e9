"""The classifier's step in five Triton kernels, for NVIDIA GPUs; the plain-torch path is their reference."""

from __future__ import annotations

import importlib.util

import torch

LARGEST_DIM = 512  # a row has to fit in a block


def usable(device: torch.device, dim: int) -> bool:
    """Whether the kernels run there: CUDA with Triton, which comes with torch's CUDA builds."""
    return device.type == "cuda" and dim <= LARGEST_DIM and importlib.util.find_spec("triton") is not None
