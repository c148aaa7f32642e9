"""A SQLite file: what a block commits is there for the next one, and nothing else."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from immr.storage.sqlite_file import connected

TABLES = ("CREATE TABLE IF NOT EXISTS notes (text TEXT)",)


def test_only_what_was_committed_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "notes.db"
    with connected(file, TABLES) as connection, connection:
        connection.execute("INSERT INTO notes VALUES ('kept')")
    with pytest.raises(ZeroDivisionError), connected(file, TABLES) as connection, connection:
        connection.execute("INSERT INTO notes VALUES ('lost')")
        1 / 0  # noqa: B018
    with connected(file, TABLES) as connection:
        assert connection.execute("SELECT text FROM notes").fetchall() == [("kept",)]
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,), "FULL"
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")
