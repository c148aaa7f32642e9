"""The promotion log: every decision about a version, with its reason and numbers, one JSON object a line."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

_log = logging.getLogger(__name__)


class PromotionLog:
    """Append-only. A line that a crash cut off is left out when reading, and never glued to the next."""

    def __init__(self, path: Path) -> None:
        """Take the path; the file is made by the first decision."""
        self._path = path

    def append(self, decision: Mapping[str, Any]) -> None:
        """Write a decision down; after the return it is on the disk."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+b") as file:
            line = json.dumps(decision, ensure_ascii=False).encode() + b"\n"
            file.write((b"\n" if _cut_off(file) else b"") + line)
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[dict[str, Any]]:
        """All decisions, oldest first."""
        if not self._path.is_file():
            return []
        decisions: list[dict[str, Any]] = []
        for number, line in enumerate(self._path.read_bytes().splitlines(), start=1):
            try:
                decisions.append(json.loads(line))
            except ValueError:
                _log.warning("left out line %d of %s: it was cut off while written", number, self._path)
        return decisions


def _cut_off(file: IO[bytes]) -> bool:
    """Whether the last line has no end."""
    if not file.seek(0, os.SEEK_END):
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"
