"""How much is asked of a variant at once: as much as it has shown to bear; the rest is refused early."""

from __future__ import annotations

import time
from collections.abc import Callable

_SHRINK = 0.9
_ROUND_S = 0.1  # refusals of one moment count once


class AdaptiveLimit:
    """Grows by one a round while it is used up and all is well; a tenth smaller where the variant refuses.

    Additive increase, multiplicative decrease (Chiu and Jain 1989), as TCP does it: no one has to say how
    many replicas stand behind an address. For one event loop: not thread safe.
    """

    def __init__(self, at_first: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = self._limit = float(at_first)
        self._clock = clock
        self._under_way = 0
        self._shrunk_at = clock() - _ROUND_S

    def enter(self) -> bool:
        """Take a place, where there is one; who got it calls `leave`."""
        if self._under_way >= max(1, int(self._limit)):
            return False
        self._under_way += 1
        return True

    def leave(self) -> None:
        """Give the place back."""
        self._under_way -= 1

    def answered(self) -> None:
        """The variant bore it."""
        if 2 * self._under_way >= self._limit:
            self._limit = min(self._most, self._limit + 1 / self._limit)

    def refused(self) -> None:
        """The variant said that it is too much."""
        now = self._clock()
        if now - self._shrunk_at >= _ROUND_S:
            self._limit = max(1.0, _SHRINK * min(self._limit, self._under_way))
            self._shrunk_at = now
