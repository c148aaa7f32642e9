"""A cached value that is recomputed rarely, so that watching never becomes the load. (ours)"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)

_SLOW_S = 0.25
"""Values that take longer are renewed in the background, so that readers need not wait."""
_OLD_S = 10.0
"""A reader waits for a new value if the cached one expired longer ago, as after a night without readers."""


class CachedValue(Generic[T]):
    """A value with an expiry, computed by one thread at a time.

    A value is kept for `keep_s`, and at least ten times as long as it took to compute. The first is kept for `keep_s`
    only, because its time includes the import of libraries. If a renewal in the background
    fails, the next reader computes the value itself and gets the error: a stale value never hides a failure.
    """

    def __init__(self, compute: Callable[[], T], keep_s: float = 2.0) -> None:
        self._compute, self._keep_s = compute, keep_s
        self._lock = threading.Lock()
        self._expires = -1.0
        self._took_s = 0.0
        self._values: list[T] = []  # empty, or the one value

    def __call__(self) -> T:
        """The cached value, or a fresh one if it expired long ago.

        Raises:
            Exception: What `compute` raises.
        """
        return self.latest() if time.monotonic() < self._expires + _OLD_S else self._current()

    def latest(self) -> T:
        """The same, but a slow value is never waited for again once there is one, however old it is.

        Raises:
            Exception: What `compute` raises.
        """
        if self._values and self._took_s > _SLOW_S:
            if time.monotonic() >= self._expires and self._lock.acquire(blocking=False):
                threading.Thread(target=self._renew_in_background, daemon=True).start()
            return self._values[0]
        return self._current()

    def _current(self) -> T:
        with self._lock:
            if time.monotonic() >= self._expires:
                self._renew()
            return self._values[0]

    def renewed(self) -> T:
        """A value that is computed now, and shown to all readers from then on.

        Raises:
            Exception: What `compute` raises.
        """
        with self._lock:
            self._renew()
            return self._values[0]

    def _renew(self) -> None:
        started, is_first = time.monotonic(), not self._values
        self._values[:] = [self._compute()]
        self._took_s = time.monotonic() - started
        kept_s = self._keep_s if is_first else max(self._keep_s, 10 * self._took_s)
        self._expires = started + self._took_s + kept_s

    def _renew_in_background(self) -> None:
        try:
            self._renew()
        except Exception as error:
            log.warning("a value of the page could not be renewed: %s", error)
            self._took_s = 0.0  # makes the next reader compute it, and get the error
        finally:
            self._lock.release()
