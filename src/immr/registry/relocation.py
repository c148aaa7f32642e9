"""Homes that were moved or copied: updates the absolute artifact paths in MLflow's SQLite database.

MLflow stores absolute artifact paths for each experiment, run and version. After `mv home elsewhere` they point
nowhere, and after `cp -r home copy` they still point into the original home.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from immr.errors import RegistryError

_LOG = logging.getLogger(__name__)
_BUSY_TIMEOUT_S = 30.0

_LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)


def relocate_artifacts(database: Path, experiment: str, artifacts: Path) -> None:
    """Rewrite every artifact path below the experiment's old folder to a path below `artifacts`.

    IMMR's experiment stores its artifacts in the folder beside the database, so another folder of the same
    name means that the home was moved or copied. Any other location was chosen by the user and stays.

    Args:
        database: MLflow's SQLite file.
        experiment: Name of IMMR's experiment.
        artifacts: The folder beside the database.

    Raises:
        RegistryError: The database cannot be read or updated.
    """
    try:
        with closing(sqlite3.connect(database, timeout=_BUSY_TIMEOUT_S)) as connection:
            before = _location(connection, experiment)
            if before is None or not _was_moved(before, artifacts):
                return
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                for table, column in _LOCATIONS:
                    for old, new in ((before.as_uri(), artifacts.as_uri()), (str(before), str(artifacts))):
                        connection.execute(
                            f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1) "
                            f"WHERE {column} = :old OR substr({column}, 1, length(:old) + 1) = :old || '/'",
                            {"old": old, "new": new},
                        )
        _LOG.info("the home was moved or copied: MLflow's artifacts are now in %s, not %s", artifacts, before)
    except sqlite3.Error as error:
        raise RegistryError(
            f"MLflow's database {database} cannot be read or updated ({error}): check that it is an MLflow "
            "database and writable, and that its disk is not full"
        ) from error


def _location(connection: sqlite3.Connection, experiment: str) -> Path | None:
    """The experiment's artifact folder, or None if it is not on this machine."""
    row = connection.execute(
        "SELECT artifact_location FROM experiments WHERE name = ?", (experiment,)
    ).fetchone()
    parts = urlsplit(row[0]) if row and row[0] else None
    if parts is None or parts.scheme not in ("", "file"):
        return None
    return Path(url2pathname(parts.path))


def _was_moved(before: Path, artifacts: Path) -> bool:
    same_layout = before.parts[-2:] == artifacts.parts[-2:]
    return same_layout and before.resolve() != artifacts.resolve()
