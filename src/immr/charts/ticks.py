"""Round axis steps, for numbers and for times. Pure."""

from __future__ import annotations

import math
from datetime import UTC, datetime

_DAY_S = 86400
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, _DAY_S)


def nice_steps(low: float, high: float, about: int) -> list[float]:
    """Approximately `about` round numbers (1, 2 or 5 × 10ⁿ apart), from at most `low` to at least `high`."""
    span = high - low or abs(high) or 1.0
    raw = span / max(1, about)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def number_ticks(low: float, high: float, about: int) -> list[tuple[float, str]]:
    """Round numbers between `low` and `high`, each with its text."""
    steps = nice_steps(low, high, about)
    slack = 1e-9 * max(1.0, abs(low), abs(high))
    return [(step, f"{step:.6g}") for step in steps if low - slack <= step <= high + slack]


def time_ticks(low_s: float, high_s: float, about: int) -> list[tuple[float, str]]:
    """Round moments between two times (seconds since 1970, UTC), each with its text."""
    raw = (high_s - low_s) / max(1, about)
    step = next((step for step in _STEPS_S if step >= raw), _DAY_S * max(1, math.ceil(raw / _DAY_S)))
    within_a_day = high_s - low_s <= _DAY_S
    pattern = (
        "%d %b" if step >= _DAY_S else "%H:%M:%S" if step < 60 else "%H:%M" if within_a_day else "%d %b %H:%M"
    )
    first, last = math.ceil(low_s / step), math.floor(high_s / step)
    return [
        (number * step, datetime.fromtimestamp(number * step, UTC).strftime(pattern))
        for number in range(first, last + 1)
    ]
