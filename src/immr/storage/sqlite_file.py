"""A SQLite file whose changes are durable, shared by processes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

_BUSY_TIMEOUT_S = 30.0


@contextmanager
def connected(path: Path, tables: Sequence[str]) -> Iterator[sqlite3.Connection]:
    """A connection for the duration of the block. What it commits survives a power cut.

    Args:
        path: The file; it and its folder are created if they do not exist.
        tables: Statements that create tables and indexes unless they exist (`CREATE … IF NOT EXISTS`).

    Raises:
        sqlite3.Error: The file is not a database, or another process has locked it for 30 s.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        for statement in tables:
            connection.execute(statement)
        yield connection
