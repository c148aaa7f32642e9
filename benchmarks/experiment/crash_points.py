"""Adapters of a process that is killed between two of its changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class Killed(BaseException):
    """The process of a verb ends here; `except Exception` does not see it."""


class Mortal:
    """An adapter whose process is killed before one of its next changes."""

    CHANGES = ("set_role", "clear_role", "record_decision", "apply", "remove")

    def __init__(self, part: Any, lives: Iterator[int]) -> None:
        self._part, self._lives = part, lives

    def __getattr__(self, name: str) -> Any:
        if name in self.CHANGES and next(self._lives) == 0:
            raise Killed
        return getattr(self._part, name)
