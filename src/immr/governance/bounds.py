"""Confidence bounds of a share, as Ibis expressions."""

from __future__ import annotations

from typing import Any

Z_95 = 1.959964


def wilson_lower(share: Any, weight: Any, z: float = Z_95) -> Any:
    """Lower end of Wilson's score interval (Wilson, 1927), rounded so that summation order never shows.

    Args:
        share: 0 … 1, observed.
        weight: how many observations stand behind it; weighted ones count by their weight.
        z: the normal quantile; the default leaves 2.5 % below.
    """
    middle = share + z * z / (2 * weight)
    spread = z * ((share * (1 - share) + z * z / (4 * weight)) / weight) ** 0.5
    return ((middle - spread) / (1 + z * z / weight)).round(9)
