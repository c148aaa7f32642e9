"""Work that requests ask for and do not wait long for: each kind once at a time, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Aside(Generic[T]):
    """Calls `work(name)`; whoever asks for a name under way gets the same future.

    The threads are daemons, so that a process that is told to end does not wait for them.
    """

    def __init__(self, work: Callable[[str], T]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._under_way: dict[str, Future[T]] = {}

    def __call__(self, name: str) -> Future[T]:
        """The result to come."""
        with self._lock:
            if name not in self._under_way:
                self._under_way[name] = Future()
                threading.Thread(target=self._run, args=(name,), name=f"aside-{name}", daemon=True).start()
            return self._under_way[name]

    def _run(self, name: str) -> None:
        future = self._under_way[name]
        try:
            result = self._work(name)
        except BaseException as error:
            self._end(name)
            future.set_exception(error)
        else:
            self._end(name)
            future.set_result(result)

    def _end(self, name: str) -> None:
        with self._lock:
            del self._under_way[name]
