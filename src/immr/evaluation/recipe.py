"""When a candidate may face shoppers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GateRecipe:
    """The gate passes where the lower bound of (candidate − champion) is above `margin`."""

    metric: str = "recall@1"
    margin: float = -0.05  # how much worse the lower bound may be; 0 asks for a proven gain
    floor: float = 0.3  # what a first version, with no champion to face, must reach
    confidence: float = 0.95
    bootstrap_rounds: int = 2000
    seed: int = 0
