"""Changes that wait for the process that serves a collection: a SQLite file beside it.

An embedded engine lets one process write. Whoever else has a change leaves it here, and the process that
holds the collection takes it over, in order; where nobody holds it, the next one that opens it does.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from immr.types import FloatArray

_TABLE = """CREATE TABLE IF NOT EXISTS changes (
    sequence INTEGER PRIMARY KEY, point TEXT NOT NULL, payload TEXT, embedding BLOB)"""
_BUSY_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Entry:
    """A point to be put, or to be removed where it has no payload."""

    sequence: int
    point: str
    payload: Mapping[str, Any] | None = None
    embedding_D: FloatArray | None = None


class Journal:
    """Entries in the order of their sequence; the file is made at the first one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, entries: Sequence[Entry]) -> None:
        """Add all or none, durably; a sequence that is there already stays as it is."""
        rows = [
            (
                entry.sequence,
                entry.point,
                json.dumps(entry.payload) if entry.payload is not None else None,
                entry.embedding_D.astype("<f4").tobytes() if entry.embedding_D is not None else None,
            )
            for entry in entries
        ]
        with self._connection() as connection, connection:
            connection.executemany("INSERT OR IGNORE INTO changes VALUES (?, ?, ?, ?)", rows)

    def after(self, sequence: int, limit: int) -> list[Entry]:
        """The next entries, at most `limit`."""
        if not self._path.is_file():
            return []
        with self._connection() as connection:
            rows = connection.execute(
                "SELECT * FROM changes WHERE sequence > ? ORDER BY sequence LIMIT ?", (sequence, limit)
            ).fetchall()
        return [
            Entry(
                number,
                point,
                json.loads(payload) if payload is not None else None,
                np.frombuffer(embedding, dtype="<f4") if embedding is not None else None,
            )
            for number, point, payload, embedding in rows
        ]

    def forget(self, sequence: int) -> None:
        """Drop entries up to this one: every content has them."""
        if self._path.is_file():
            with self._connection() as connection, connection:
                connection.execute("DELETE FROM changes WHERE sequence <= ?", (sequence,))

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(_TABLE)
            yield connection
