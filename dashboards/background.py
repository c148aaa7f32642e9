"""Background calls that requests share: each name runs once at a time, in a separate thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class BackgroundCalls(Generic[T]):
    """Calls `work(name)` in a daemon thread. Callers of a name that is running get the same future."""

    def __init__(self, work: Callable[[str], T]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._running: dict[str, Future[T]] = {}

    def __call__(self, name: str) -> Future[T]:
        """The future result."""
        with self._lock:
            if name not in self._running:
                self._running[name] = Future()
                thread = threading.Thread(
                    target=self._run, args=(name,), name=f"background-{name}", daemon=True
                )
                thread.start()
            return self._running[name]

    def _run(self, name: str) -> None:
        future = self._running[name]
        try:
            result = self._work(name)
        except BaseException as error:
            self._forget(name)
            future.set_exception(error)
        else:
            self._forget(name)
            future.set_result(result)

    def _forget(self, name: str) -> None:
        with self._lock:
            del self._running[name]
