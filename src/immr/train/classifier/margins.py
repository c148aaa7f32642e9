"""Margins: they make the right class harder to reach, which separates the classes. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from immr.errors import RecipeError

Margin = Callable[[Tensor], Tensor]
"""cos θ of the right class → its hardened cosine, same shape."""


def cosface(margin: float) -> Margin:
    """cos θ − m (arXiv 1801.09414)."""
    return lambda cosine_B: cosine_B - margin


def arcface(margin: float) -> Margin:
    """cos(θ + m) (arXiv 1801.07698); linear beyond θ = π − m, where the cosine would rise again."""

    def harden(cosine_B: Tensor) -> Tensor:
        sine_B = (1 - cosine_B.square()).clamp_min(torch.finfo(cosine_B.dtype).eps).sqrt()
        turned_B = cosine_B * math.cos(margin) - sine_B * math.sin(margin)
        line_B = cosine_B - margin * math.sin(margin)
        return torch.where(cosine_B > -math.cos(margin), turned_B, line_B)

    return harden


def by_name(kind: str, margin: float) -> Margin:
    """The margin of that kind.

    Raises:
        RecipeError: unknown kind.
    """
    kinds = {"cosface": cosface, "arcface": arcface}
    if kind not in kinds:
        raise RecipeError(f"unknown margin {kind!r}: choose one of {', '.join(kinds)}")
    return kinds[kind](margin)
