"""Numbers that are the same on every engine, as Ibis expressions."""

from __future__ import annotations

from typing import Any

_GRID = 2.0**-20


def on_grid(number: Any) -> Any:
    """Round to the nearest multiple of 2⁻²⁰ (about a millionth).

    Sums of such numbers are exact below 2³³, whatever the order of summation. Only multiplication, addition
    and floor are used, which every engine rounds alike; their own `round` functions differ in ties.
    """
    return (number / _GRID + 0.5).floor().cast("float64") * _GRID
