"""Adaptive concurrency limit (AIMD): how many searches a variant may have in progress."""

from __future__ import annotations

import time
from collections.abc import Callable

_SHRINK = 0.9
_ROUND_S = 0.1
"""Refusals within this time count once."""


class AdaptiveLimit:
    """Grows by one per round while it is used up and all is well; shrinks by a tenth when refused.

    Additive increase, multiplicative decrease (Chiu and Jain 1989), as in TCP: nobody has to configure how
    many replicas are behind an address. For one event loop: not thread-safe.
    """

    def __init__(self, initial: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`initial` is also the maximum."""
        self._max = self._limit = float(initial)
        self._clock = clock
        self._in_progress = 0
        self._shrunk_at = clock() - _ROUND_S

    def enter(self) -> bool:
        """Takes a place if one is free; then call `leave`."""
        if self._in_progress >= max(1, int(self._limit)):
            return False
        self._in_progress += 1
        return True

    def leave(self) -> None:
        """Returns the place."""
        self._in_progress -= 1

    def answered(self) -> None:
        """The variant answered."""
        if 2 * self._in_progress >= self._limit:
            self._limit = min(self._max, self._limit + 1 / self._limit)

    def refused(self) -> None:
        """The variant is at capacity."""
        now = self._clock()
        if now - self._shrunk_at >= _ROUND_S:
            self._limit = max(1.0, _SHRINK * min(self._limit, self._in_progress))
            self._shrunk_at = now
