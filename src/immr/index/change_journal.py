"""Changes that wait for the process that serves a collection: a SQLite file beside the collection.

Only one process can write to an embedded engine. Other processes leave their changes here. The process that
holds the collection applies them in order; if no process holds it, the next one to open it does.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

from immr.index.engines.engine import VectorEngine
from immr.storage.sqlite_file import connected
from immr.types import FloatArray

_TABLES = (
    """CREATE TABLE IF NOT EXISTS changes (
        sequence INTEGER PRIMARY KEY, point TEXT NOT NULL, payload TEXT, embedding BLOB)""",
    "CREATE INDEX IF NOT EXISTS changes_by_point ON changes (point, sequence)",
)
_DELETE_EARLIER = """DELETE FROM changes
    WHERE point = ?1 AND sequence < (SELECT MAX(sequence) FROM changes WHERE point = ?1)"""


@dataclass(frozen=True)
class PointChange:
    """A point to insert or replace, or to delete if it has no payload.

    Attributes:
        sequence: A larger number is later.
        point: Its id, see `immr.index.documents.point_id`; a UUID as text in the file.
        payload: Of a point to insert.
        embeddings: Of a point to insert: unit rows, one after the other if there are several.
    """

    sequence: int
    point: int
    payload: Mapping[str, Any] | None = None
    embeddings: FloatArray | None = None


class ChangeJournal:
    """Changes in order of their sequence; the first change creates the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, changes: Sequence[PointChange]) -> None:
        """Add all changes durably, or none; a sequence that already exists is left unchanged.

        Earlier changes of the same points are deleted, because only the last one matters. So the journal of a version
        that no process opens, such as one kept for rollback, has at most one change for each item.
        """
        rows = [
            (
                change.sequence,
                str(UUID(int=change.point)),
                json.dumps(change.payload) if change.payload is not None else None,
                change.embeddings.astype("<f4").tobytes() if change.embeddings is not None else None,
            )
            for change in changes
        ]
        with self._connection() as connection, connection:
            connection.executemany("INSERT OR IGNORE INTO changes VALUES (?, ?, ?, ?)", rows)
            connection.executemany(_DELETE_EARLIER, ((point,) for _, point, *_ in rows))

    def after(self, sequence: int, limit: int) -> list[PointChange]:
        """Up to `limit` changes that follow this sequence."""
        if not self._path.is_file():
            return []
        with self._connection() as connection:
            rows = connection.execute(
                "SELECT * FROM changes WHERE sequence > ? ORDER BY sequence LIMIT ?", (sequence, limit)
            ).fetchall()
        return [
            PointChange(
                number,
                UUID(point).int,
                json.loads(payload) if payload is not None else None,
                np.frombuffer(embedding, dtype="<f4") if embedding is not None else None,
            )
            for number, point, payload, embedding in rows
        ]

    def last(self) -> int:
        """The largest sequence, 0 if there is none."""
        if not self._path.is_file():
            return 0
        with self._connection() as connection:
            return int(connection.execute("SELECT COALESCE(MAX(sequence), 0) FROM changes").fetchone()[0])

    def forget(self, sequence: int) -> None:
        """Delete changes up to this sequence, once every content has them."""
        if self._path.is_file():
            with self._connection() as connection, connection:
                connection.execute("DELETE FROM changes WHERE sequence <= ?", (sequence,))

    def _connection(self) -> AbstractContextManager[sqlite3.Connection]:
        return connected(self._path, _TABLES)


def apply_changes(engine: VectorEngine, changes: Sequence[PointChange], dim: int) -> None:
    """Apply the last change of each point, whose embeddings have this dimension."""
    last = {change.point: change for change in changes}
    put = [change for change in last.values() if change.payload is not None]
    removed = [change.point for change in last.values() if change.payload is None]
    if put:
        engine.put(
            [change.point for change in put],
            [change.embeddings.reshape(-1, dim) for change in put if change.embeddings is not None],
            [change.payload or {} for change in put],
        )
    if removed:
        engine.remove(removed)
