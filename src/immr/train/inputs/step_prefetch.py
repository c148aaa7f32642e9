"""Work for the next steps, done in threads while the current step is computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Generic, TypeVar

from immr.train.inputs.batches import Rows

R = TypeVar("R")


class Prefetched(Generic[R]):
    """The result of some work for each step, in the order of the steps."""

    def __init__(self, work: Callable[[Rows, int], R], most: int):
        """Start the threads.

        Args:
            work: for a step's rows and number; must be safe in threads.
            most: steps that may be prepared or waiting. With 0, work is done when its result is requested.
        """
        self._work, self._most = work, most
        self._pool = ThreadPoolExecutor(max(1, most))
        self._ready: dict[int, Future[R]] = {}

    def ahead(self, steps: Iterable[tuple[int, Rows]]) -> Iterator[tuple[int, Rows]]:
        """The same steps; the next ones are prepared meanwhile."""
        if not self._most:
            yield from steps
            return
        coming = iter(steps)
        waiting: deque[tuple[int, Rows]] = deque()
        try:
            while True:
                for step, rows in islice(coming, self._most - len(waiting)):
                    self._ready[step] = self._pool.submit(self._work, rows, step)
                    waiting.append((step, rows))
                if not waiting:
                    return
                yield waiting.popleft()
        finally:
            for future in self._ready.values():
                future.cancel()
            self._ready.clear()

    def of(self, rows: Rows, step: int) -> R:
        """The result for a step, prepared or not."""
        future = self._ready.pop(step, None)
        return future.result() if future else self._work(rows, step)
