"""Graceful shutdown: after SIGTERM the server keeps serving for a while, and closes connections one by one.

A client that writes to a kept connection just as it is closed loses its request. So the server closes each
connection together with its next answer, and announces that (RFC 9112, section 9.6), and closes those that have
been idle for a while. The server still accepts new connections, because a load balancer may send some until it
has noticed.
"""

from __future__ import annotations

import signal
import time
from types import FrameType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

KEEP_ALIVE_S = 75
"""How long an idle connection is kept. Longer than proxies keep one (nginx and AWS: 60 s), or they would send a
request just as it is closed; they do not repeat a POST."""
DRAIN_S = 6.0
_IDLE_S = 5.0  # while draining
_QUIET_S = 0.5
_CLOSE = (b"connection", b"close")


class DrainingServer(uvicorn.Server):
    """Stops once all connections are closed, or after `DRAIN_S`; at once on SIGINT or a second SIGTERM.

    Requests in progress are always finished, as in every uvicorn server.
    """

    _drain_until_s: float | None = None
    _quiet_since_s = 0.0
    _answered = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handles a signal."""
        if sig != signal.SIGTERM or self._drain_until_s is not None:
            super().handle_exit(sig, frame)
            return
        self._quiet_since_s = time.monotonic()
        self._drain_until_s = self._quiet_since_s + DRAIN_S

    async def on_tick(self, counter: int) -> bool:
        """Decides ten times a second whether to stop."""
        stops = await super().on_tick(counter)
        if self._drain_until_s is None or stops:
            return stops
        if _CLOSE not in self.server_state.default_headers:  # uvicorn rebuilds them every second
            self.server_state.default_headers.append(_CLOSE)
        self._close_idle()
        if self._is_drained(self._drain_until_s):
            super().handle_exit(signal.SIGTERM, None)
        return self.should_exit

    def _close_idle(self) -> None:
        for connection in list(self.server_state.connections):
            if isinstance(connection, HttpToolsProtocol) and (end := connection.timeout_keep_alive_task):
                idle_s = self.config.timeout_keep_alive - (end.when() - connection.loop.time())
                if idle_s >= min(_IDLE_S, self.config.timeout_keep_alive):
                    connection.timeout_keep_alive_handler()

    def _is_drained(self, drain_until_s: float) -> bool:
        now_s, answered = time.monotonic(), self.server_state.total_requests
        if self.server_state.connections or answered != self._answered:
            self._quiet_since_s, self._answered = now_s, answered
        return now_s >= drain_until_s or now_s - self._quiet_since_s >= _QUIET_S
