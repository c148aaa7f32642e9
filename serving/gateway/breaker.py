"""Circuit breaker: after consecutive failures, a variant gets no requests for a while."""

from __future__ import annotations

import time
from collections.abc import Callable


class CircuitBreaker:
    """Closed: requests pass. Open: they do not, until a pause is over and one request tries.

    The circuit breaker of Nygard, "Release It!", whose pause doubles while trials fail. Each request reports
    its outcome through its own `Attempt`, so that only the trial ends or extends the pause. For one event loop:
    not thread-safe.
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
        self._trial: Attempt | None = None

    @property
    def is_open(self) -> bool:
        """Whether the variant has failed and not recovered since."""
        return self._open_until is not None

    def admit(self) -> Attempt | None:
        """An attempt if the variant may be asked now; while the breaker is open, at most one trial."""
        if self._open_until is None:
            return Attempt(self)
        if self._trial is not None or self._clock() < self._open_until:
            return None
        self._trial = Attempt(self)
        return self._trial

    def force(self) -> Attempt:
        """An attempt whatever the state. It does not end another request's trial, unless it succeeds."""
        return Attempt(self)

    def _succeeded(self) -> None:
        self._failures = 0
        self._pause_s = self._first_pause_s
        self._open_until = self._trial = None

    def _failed(self, attempt: Attempt) -> None:
        if self._open_until is None:
            self._failures += 1
            if self._failures >= self._failures_to_open:
                self._open_until = self._clock() + self._pause_s
        elif attempt is self._trial:
            self._pause_s = min(2 * self._pause_s, self._max_pause_s)
            self._open_until = self._clock() + self._pause_s
            self._trial = None

    def _abandoned(self, attempt: Attempt) -> None:
        if attempt is self._trial:
            self._trial = None


class Attempt:
    """One request to a variant; report its outcome once."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker

    @property
    def is_open(self) -> bool:
        """Whether the breaker is open."""
        return self._breaker.is_open

    def succeeded(self) -> None:
        """The variant answered: the breaker closes."""
        self._breaker._succeeded()

    def failed(self) -> None:
        """The variant did not answer, or too late."""
        self._breaker._failed(self)

    def abandoned(self) -> None:
        """The request ended without an outcome."""
        self._breaker._abandoned(self)
