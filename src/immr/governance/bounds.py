"""Confidence bounds of a share, and numbers that are the same on every engine, as Ibis expressions."""

from __future__ import annotations

from typing import Any

Z_95 = 1.959964
_GRID = 2.0**-20


def on_grid(number: Any) -> Any:
    """To the nearest multiple of 2⁻²⁰ (about a millionth).

    Sums of such numbers are exact below 2³³, so no order of summation shows in them. Only multiplication,
    addition and floor are used, which every engine rounds alike; their own `round` differs in ties.
    """
    return (number / _GRID + 0.5).floor().cast("float64") * _GRID


def wilson_lower(share: Any, weight: Any, z: float = Z_95) -> Any:
    """Lower end of Wilson's score interval (Wilson, 1927), on the grid.

    Args:
        share: 0 … 1, observed.
        weight: how many observations stand behind it; weighted ones count by their weight.
        z: the normal quantile; the default leaves 2.5 % below.
    """
    middle = share + z * z / (2 * weight)
    spread = z * ((share * (1 - share) + z * z / (4 * weight)) / weight).sqrt()
    return on_grid((middle - spread) / (1 + z * z / weight))
