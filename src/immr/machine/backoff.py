"""How long to wait before the next try of something that keeps failing, or the next start of what keeps exiting."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

FIRST_PAUSE_S, MAX_PAUSE_S = 1.0, 60.0
"""Before a process that has exited is started again."""
SETTLED_S = 600.0
"""After which an exit counts as the first one."""
_MAX_DOUBLINGS = 64  # a float has room for 1,023, which a failure per minute reaches within a day


def pause_s(failures: int, first_s: float, longest_s: float) -> float:
    """Seconds to wait after this many failures in a row: doubled from failure to failure.

    Args:
        failures: At least 1, for the failure that has just happened.
        first_s: The wait after the first failure.
        longest_s: No wait is longer.
    """
    return min(first_s * 2.0 ** min(failures - 1, _MAX_DOUBLINGS), longest_s)


@dataclass
class Restarts:
    """When a process that has exited is started again. Times are those of `time.monotonic`."""

    exits: int = 0  # one after the other
    _started_at: float = field(default_factory=time.monotonic)
    _due_at: float | None = None

    def exited(self) -> float | None:
        """Count an exit, and return the pause that follows it in seconds; None if it is counted already."""
        if self._due_at is not None:
            return None
        now = time.monotonic()
        if now - self._started_at > SETTLED_S:
            self.exits = 0
        self.exits += 1
        wait_s = pause_s(self.exits, FIRST_PAUSE_S, MAX_PAUSE_S)
        self._due_at = now + wait_s
        return wait_s

    def is_due(self) -> bool:
        """Whether the pause after an exit is over."""
        return self._due_at is not None and time.monotonic() >= self._due_at

    def started(self) -> None:
        """Note that the process has been started again."""
        self._started_at, self._due_at = time.monotonic(), None
