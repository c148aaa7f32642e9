"""A message that is repeated every few seconds is logged once a minute."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

_EVERY_S = 60.0


@contextmanager
def repeats_once_a_minute() -> Iterator[None]:
    """During the block, each handler of the root logger drops a message that it had within the last minute."""
    filters = [(handler, _Repeats()) for handler in logging.getLogger().handlers]
    for handler, each in filters:
        handler.addFilter(each)
    try:
        yield
    finally:
        for handler, each in filters:
            handler.removeFilter(each)


class _Repeats(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self._last_s: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now_s, key = time.monotonic(), (record.name, record.getMessage())
        self._last_s = {each: last_s for each, last_s in self._last_s.items() if now_s - last_s < _EVERY_S}
        return self._last_s.setdefault(key, now_s) == now_s
