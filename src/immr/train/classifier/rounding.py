"""float32 to bfloat16 so that it is right on average: small steps add up instead of being lost.

bfloat16 keeps 8 bits: a step below 1/512 of a value is lost where it is rounded to the nearest. Rounded up or
down at random, the nearer the likelier, the value is right on average (stochastic rounding, as for weights in
bfloat16 in arXiv 2010.06192).
"""

from __future__ import annotations

import torch
from torch import Tensor


def to_bfloat16(values: Tensor, generator: torch.Generator) -> Tensor:
    """The bfloat16 below or above each float32 value, of the same shape, drawn with `generator`.

    A value that bfloat16 can hold stays as it is.
    """
    lanes = torch.empty(-(-values.numel() // 4), dtype=torch.int64, device=generator.device)
    lanes = lanes.random_(-(2**63), None, generator=generator).to(values.device)
    noise = lanes.view(torch.int16)[: values.numel()]
    bits = values.contiguous().view(torch.int32)
    bits = bits + noise.view_as(values).to(torch.int32).bitwise_and_(0xFFFF)
    return bits.bitwise_right_shift_(16).to(torch.int16).view(torch.bfloat16)
