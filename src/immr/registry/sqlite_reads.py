"""Roles and versions, read from MLflow's SQLite file in a millisecond: importing MLflow takes seconds.

The tables are MLflow's own and may change with a release. Every function returns None if it cannot read them, and the
caller asks MLflow. A file that does not exist holds nothing. All writes go through MLflow.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BUSY_TIMEOUT_S = 30.0
_ALIASES = "SELECT alias, version FROM registered_model_aliases WHERE name = ? AND workspace = 'default'"
_VERSIONS = """SELECT version, run_id, source, creation_time FROM model_versions
    WHERE name = ? AND workspace = 'default' AND current_stage <> 'Deleted_Internal' ORDER BY version"""
_TAGS = "SELECT version, key, value FROM model_version_tags WHERE name = ? AND workspace = 'default'"


@dataclass(frozen=True)
class Entry:
    """A version as MLflow's client returns it, with the attributes that IMMR uses."""

    name: str
    version: int
    run_id: str
    source: str
    creation_timestamp: int  # milliseconds since 1970
    tags: dict[str, str]


def aliases(database: Path, model: str) -> dict[str, str] | None:
    """Version number, as text, by alias."""
    rows = _rows(database, (_ALIASES,), model)
    return None if rows is None else {alias: str(version) for alias, version in rows[0]}


def entries(database: Path, model: str) -> list[Entry] | None:
    """All versions of a model, oldest first."""
    rows = _rows(database, (_VERSIONS, _TAGS), model)
    if rows is None:
        return None
    versions, tags = rows
    return [
        Entry(
            model, version, run_id, source, created, {key: value for of, key, value in tags if of == version}
        )
        for version, run_id, source, created in versions
    ]


def _rows(database: Path, queries: tuple[str, ...], model: str) -> list[list[tuple[Any, ...]]] | None:
    """The rows of each query, all of one moment."""
    if not database.exists():
        return [[] for _ in queries]
    try:
        with closing(
            sqlite3.connect(f"{database.as_uri()}?mode=ro", _BUSY_TIMEOUT_S, uri=True)
        ) as connection:
            connection.execute("BEGIN")
            return [connection.execute(query, (model,)).fetchall() for query in queries]
    except sqlite3.Error:
        return None
