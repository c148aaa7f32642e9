"""Stochastic rounding from float32 to bfloat16, so small updates add up (as for weights in arXiv 2010.06192).

bfloat16 has 8 bits of precision, so rounding to nearest loses an update below 1/512 of a value. Rounding up or down
at random, with probabilities by distance, is right on average.
"""

from __future__ import annotations

import torch
from torch import Tensor

from immr.train.classifier import counter_random


def to_bfloat16(values: Tensor, seed: int) -> Tensor:
    """Each float32 value rounded to the bfloat16 below or above it, of the same shape.

    Values that bfloat16 can represent do not change.
    """
    noise = _lanes(seed, -(-values.numel() // 4), values.device).view(torch.int16)[: values.numel()]
    bits = values.contiguous().view(torch.int32)
    bits = bits + noise.view_as(values).to(torch.int32).bitwise_and_(0xFFFF)
    return bits.bitwise_right_shift_(16).to(torch.int16).view(torch.bfloat16)


def _lanes(seed: int, count: int, device: torch.device) -> Tensor:
    """Random bits, int64 (count,)."""
    if device.type != "cpu":
        return counter_random.bits(seed, count, device)
    # on a CPU torch's generator takes half the time
    generator = torch.Generator().manual_seed(seed)
    return torch.empty(count, dtype=torch.int64).random_(-(2**63), None, generator=generator)
