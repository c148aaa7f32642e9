"""Hosts that have stopped answering: a circuit breaker, so that an outage costs no timeout for each picture."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

_PROBE_S = 10.0
_PATIENCE_S = 300.0  # a restart of a server, or of the network here


@dataclass
class _Host:
    failures: int = 0  # in a row
    since: float = 0.0  # the last success or the first failure of the row
    last_probe: float = 0.0


class Outages:
    """Which hosts may be asked. After many failures in a row, a host gets one request every ten seconds.

    Requests for it wait for its first answer for five minutes, and fail after that. Thread-safe.

    Args:
        failures: in a row, after which a host is taken to be out.
        pause: waits for some seconds.
        clock: seconds that only rise.
    """

    def __init__(
        self,
        failures: int,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures, self._pause, self._clock = failures, pause, clock
        self._hosts: dict[str, _Host] = {}
        self._lock = threading.Lock()

    def may_ask(self, host: str) -> bool:
        """Waits until the host may be asked; False if it has not answered for too long."""
        while True:
            with self._lock:
                state, now = self._hosts.get(host), self._clock()
                if state is None or state.failures < self._failures:
                    return True
                if now - state.last_probe >= _PROBE_S:
                    state.last_probe = now
                    return True
                if now - state.since > _PATIENCE_S:
                    return False
            self._pause(1.0)

    def answered(self, host: str) -> None:
        """The host has answered, be it with an error of its own such as 404."""
        with self._lock:
            self._hosts.pop(host, None)

    def failed(self, host: str) -> None:
        """A request got no answer, or a server error."""
        with self._lock:
            state = self._hosts.setdefault(host, _Host(since=self._clock()))
            state.failures += 1
            if state.failures == self._failures:
                state.last_probe = self._clock()
