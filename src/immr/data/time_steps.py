"""Rounded times: some logs have minutes, ten minutes, hours or dates instead of times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

MINUTE_US = 60_000_000
STEPS_US = tuple(
    minutes * MINUTE_US
    for minutes in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60, 120, 180, 240, 360, 720, 1440)
)
"""Steps that times are rounded to, in microseconds; each divides a day."""
_NEARLY_ALL = 0.99  # a few times may be exact, such as those that a test wrote


def step_of(multiples: Sequence[int], times: int) -> int:
    """The largest step of which nearly all times are multiples, in microseconds; 0 if they are finer than minutes.

    Args:
        multiples: how many times are multiples of each of `STEPS_US`.
        times: how many there are.
    """
    least = max(_NEARLY_ALL * times, 1)
    return max((step for step, count in zip(STEPS_US, multiples, strict=True) if count >= least), default=0)


def step_between(time_N: npt.NDArray[np.int64]) -> int:
    """`step_of` for times in microseconds since 1970, (N,)."""
    return step_of([int((time_N % step == 0).sum()) for step in STEPS_US], len(time_N))
