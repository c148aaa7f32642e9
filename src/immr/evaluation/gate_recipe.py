"""When a candidate may face shoppers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class GateRecipe:
    """The gate passes where the lower bound of (candidate − champion) is above `margin` and no slice falls.

    A slice falls where its mean difference is below the slice's margin and the whole interval is below zero:
    a fall that is too large and no accident. Slices of fewer than `slice_queries` photos have no say.
    """

    metric: str = "recall@1"
    margin: float = -0.05  # how much worse the lower bound may be; 0 asks for a proven gain
    slice_margin: float = -0.1  # how much worse a slice's mean may be
    slice_margins: Mapping[str, float] = field(default_factory=dict)  # by slice, in place of slice_margin
    slice_queries: int = 30
    floor: float = 0.3  # what a first version, with no champion to face, must reach
    confidence: float = 0.95
    bootstrap_rounds: int = 2000
    seed: int = 0
