"""Append-only logs as JSON lines: the registry's decisions, and the history of experiments."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

_LOG = logging.getLogger(__name__)


class JsonLines:
    """An append-only file. A line cut short by a crash is skipped on reading and never joined to the next."""

    def __init__(self, path: Path) -> None:
        """Store the path; the first line creates the file."""
        self._path = path

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write an entry; it is on disk when this returns."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+b") as file:
            line = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
            file.write((b"\n" if _ends_mid_line(file) else b"") + line)
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[dict[str, Any]]:
        """All entries, oldest first."""
        if not self._path.is_file():
            return []
        entries: list[dict[str, Any]] = []
        for number, line in enumerate(self._path.read_bytes().splitlines(), start=1):
            try:
                entries.append(json.loads(line))
            except ValueError:
                _LOG.warning("skipped line %d of %s: it is incomplete", number, self._path)
        return entries


def _ends_mid_line(file: IO[bytes]) -> bool:
    if not file.seek(0, os.SEEK_END):
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"
