"""Whether a variant is worth asking: after failures in a row it is left alone for a while."""

from __future__ import annotations

import time
from collections.abc import Callable


class CircuitBreaker:
    """Closed: ask. Open: do not. When its time has passed, one request tries, and decides for the others.

    The circuit breaker of Nygard, "Release It!", with a pause that doubles while trials fail. For one event
    loop: not thread safe.
    """

    def __init__(
        self,
        failures_to_open: int = 5,
        pause_s: float = 1.0,
        max_pause_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures_to_open = failures_to_open
        self._first_pause_s = pause_s
        self._max_pause_s = max_pause_s
        self._clock = clock
        self._failures = 0
        self._pause_s = pause_s
        self._open_until: float | None = None
        self._trying = False

    @property
    def is_open(self) -> bool:
        """Whether the last that is known of it is bad."""
        return self._open_until is not None

    def allows(self) -> bool:
        """Whether to ask now; a True while it is open is the one trial, and wants its outcome told."""
        if self._open_until is None:
            return True
        if self._trying or self._clock() < self._open_until:
            return False
        self._trying = True
        return True

    def succeeded(self) -> None:
        """It answered."""
        self._failures = 0
        self._pause_s = self._first_pause_s
        self._open_until = None
        self._trying = False

    def failed(self) -> None:
        """It did not answer, or too late."""
        self._failures += 1
        if self._open_until is None and self._failures < self._failures_to_open:
            return
        if self._open_until is not None and self._trying:
            self._pause_s = min(2 * self._pause_s, self._max_pause_s)
        if self._open_until is None or self._trying:
            self._open_until = self._clock() + self._pause_s
        self._trying = False

    def abandoned(self) -> None:
        """The request went away before its outcome was known."""
        self._trying = False
