"""Waits for what other threads and processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def until(
    condition: Callable[[], Any],
    timeout_s: float = 60.0,
    context: Callable[[], Any] = str,
    pause_s: float = 0.05,
) -> None:
    """Returns once the condition is true; fails after the timeout, with what `context` returns then."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not after {timeout_s:g} s: {context()}"
        time.sleep(pause_s)
