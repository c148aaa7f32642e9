"""An end that no caller notices: after SIGTERM a server goes on for a while, and parts from everyone in turn.

Who keeps a connection may write to it just as it is closed, and has lost a request. So each connection is
closed with its next answer, which says so (RFC 9112, 9.6); an idle one after uvicorn's time, as ever.
New connections are taken meanwhile: a load balancer may send some until it has heard.
"""

from __future__ import annotations

import signal
import time
from types import FrameType

import uvicorn

DRAIN_S = 6.0  # a second more than a connection may be idle
_QUIET_S = 0.5
_CLOSE = (b"connection", b"close")


class DrainingServer(uvicorn.Server):
    """Ends once all connections are gone, or after `DRAIN_S`; at once on SIGINT or another SIGTERM.

    In any case what is under way is finished, as by every uvicorn server.
    """

    _drained_at_s: float | None = None  # at the latest
    _quiet_since_s = 0.0
    _answered = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal."""
        if sig != signal.SIGTERM or self._drained_at_s is not None:
            super().handle_exit(sig, frame)
            return
        self._quiet_since_s = time.monotonic()
        self._drained_at_s = self._quiet_since_s + DRAIN_S

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to end now."""
        ends = await super().on_tick(counter)
        if self._drained_at_s is None or ends:
            return ends
        if _CLOSE not in self.server_state.default_headers:  # uvicorn makes them anew each second
            self.server_state.default_headers.append(_CLOSE)
        if self._is_drained(self._drained_at_s):
            super().handle_exit(signal.SIGTERM, None)
        return self.should_exit

    def _is_drained(self, at_the_latest_s: float) -> bool:
        now_s, answered = time.monotonic(), self.server_state.total_requests
        if self.server_state.connections or answered != self._answered:
            self._quiet_since_s, self._answered = now_s, answered
        return now_s >= at_the_latest_s or now_s - self._quiet_since_s >= _QUIET_S
