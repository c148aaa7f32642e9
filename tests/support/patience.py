"""Waits for what other threads and processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def until(
    condition: Callable[[], T],
    timeout_s: float = 60.0,
    context: Callable[[], Any] = str,
    pause_s: float = 0.05,
) -> T:
    """What the condition returns once that is true; fails after the timeout, with what `context` returns then."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not after {timeout_s:g} s: {context()}"
        time.sleep(pause_s)
    return found
