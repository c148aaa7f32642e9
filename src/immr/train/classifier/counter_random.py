"""Random numbers as a pure function of seed and counter, so every device draws the same ones.

splitmix64 (Steele, Lea & Flood 2014) in torch's integer arithmetic, which wraps around like C's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_STEP = -7046029254386353131  # 2⁶⁴ / golden ratio, as a signed number
_FIRST, _SECOND = -4658895280553007687, -7723592293110705685
_TO_UNIT = 2.0**-53


def bits(seed: int | Tensor, count: int, device: torch.device, start: int = 0) -> Tensor:
    """64 random bits for each counter `start` … `start + count`, int64 (count,); the seed may be on the device."""
    mixed = torch.arange(start + 1, start + count + 1, device=device).mul_(_STEP).add_(seed)
    mixed.bitwise_xor_(_shifted(mixed, 30)).mul_(_FIRST)
    mixed.bitwise_xor_(_shifted(mixed, 27)).mul_(_SECOND)
    return mixed.bitwise_xor_(_shifted(mixed, 31))


def uniform(seed: int | Tensor, count: int, device: torch.device) -> Tensor:
    """Numbers in [0, 1), float64 (count,)."""
    return _shifted(bits(seed, count, device), 11).double().mul_(_TO_UNIT)


def normal(seed: int, count: int, device: torch.device, start: int = 0) -> Tensor:
    """Standard normal numbers (Box & Muller 1958), float32 (2, count): two for each counter."""
    drawn = bits(seed, count, device, start)
    # the first is in (0, 1], for the logarithm
    radius = _shifted(drawn, 40).float().add_(1.0).mul_(2.0**-24).log_().mul_(-2.0).sqrt_()
    angle = drawn.bitwise_and_((1 << 24) - 1).float().mul_(2.0 * math.pi * 2.0**-24)
    return torch.stack([angle.cos().mul_(radius), angle.sin_().mul_(radius)])


def _shifted(values: Tensor, by: int) -> Tensor:
    """Logical shift to the right; torch's is arithmetic."""
    return values.bitwise_right_shift(by).bitwise_and_((1 << (64 - by)) - 1)
