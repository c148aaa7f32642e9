"""The classifier's step in Triton kernels, for NVIDIA GPUs; the plain-torch path is their reference."""

from __future__ import annotations

import importlib.util
import logging
from functools import lru_cache

import torch

LARGEST_DIM = 512  # a row has to fit in a block
_log = logging.getLogger(__name__)


def usable(device: torch.device, dim: int) -> bool:
    """Whether the kernels run there: CUDA with Triton, which comes with torch's CUDA builds."""
    if device.type != "cuda" or dim > LARGEST_DIM or importlib.util.find_spec("triton") is None:
        return False
    return _runs(device)


@lru_cache
def _runs(device: torch.device) -> bool:
    """Whether a kernel compiles and runs, which takes a C compiler and Python's headers."""
    from immr.train.classifier.kernels import rows

    try:
        rows.try_out(device)
    except Exception as error:  # Triton and its compiler raise many types
        _log.warning(
            "Triton does not work here, so the classifier runs in plain torch and is slower: %s", error
        )
        return False
    return True
