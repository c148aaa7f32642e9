"""Margins: they make the right class harder to reach, which separates the classes. Pure.

Each knows its slope, because autograd inside a hand-written backward pass costs the host more than the formula.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from immr.errors import RecipeError


class Margin(Protocol):
    """cos θ of the right class → its hardened cosine, same shape."""

    def __call__(self, cosine_B: Tensor) -> Tensor:
        """The hardened cosine."""

    def slope(self, cosine_B: Tensor) -> Tensor:
        """Its derivative."""


@dataclass(frozen=True)
class CosFace:
    """cos θ − m (arXiv 1801.09414)."""

    margin: float

    def __call__(self, cosine_B: Tensor) -> Tensor:
        """The hardened cosine."""
        return cosine_B - self.margin

    def slope(self, cosine_B: Tensor) -> Tensor:
        """Its derivative."""
        return torch.ones_like(cosine_B)


@dataclass(frozen=True)
class ArcFace:
    """cos(θ + m) (arXiv 1801.07698); linear beyond θ = π − m, where the cosine would rise again."""

    margin: float

    def __call__(self, cosine_B: Tensor) -> Tensor:
        """The hardened cosine."""
        turned_B = cosine_B * math.cos(self.margin) - _sine(cosine_B) * math.sin(self.margin)
        line_B = cosine_B - self.margin * math.sin(self.margin)
        return torch.where(self._turns(cosine_B), turned_B, line_B)

    def slope(self, cosine_B: Tensor) -> Tensor:
        """Its derivative; at cos θ = ±1, where it is infinite, that of a constant sine."""
        sine_B = _sine(cosine_B)
        moves_B = sine_B > torch.finfo(cosine_B.dtype).eps ** 0.5
        cotangent_B = torch.where(moves_B, cosine_B / sine_B, 0.0)
        turned_B = math.cos(self.margin) + cotangent_B * math.sin(self.margin)
        return torch.where(self._turns(cosine_B), turned_B, 1.0)

    def _turns(self, cosine_B: Tensor) -> Tensor:
        return cosine_B > -math.cos(self.margin)


def by_name(kind: str, margin: float) -> Margin:
    """The margin of that kind.

    Raises:
        RecipeError: unknown kind.
    """
    kinds: dict[str, type[CosFace] | type[ArcFace]] = {"cosface": CosFace, "arcface": ArcFace}
    if kind not in kinds:
        raise RecipeError(f"unknown margin {kind!r}: choose one of {', '.join(kinds)}")
    return kinds[kind](margin)


def _sine(cosine_B: Tensor) -> Tensor:
    return (1 - cosine_B.square()).clamp_min(torch.finfo(cosine_B.dtype).eps).sqrt()
