"""A migrated MLflow database, created once per run and copied for every registry that needs one.

MLflow takes seconds to migrate a new SQLite database. Processes that tests start still create their own.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from immr.registry import store


def copier(template: Path) -> Callable[[Path], None]:
    """A replacement for `store._create` that copies `template`, which its first call creates."""
    create = store._create

    def copy(database: Path) -> None:
        if not template.exists():
            create(template)
        database.parent.mkdir(parents=True, exist_ok=True)
        new = database.with_name(f".new-{database.name}")
        shutil.copyfile(template, new)
        with closing(sqlite3.connect(new)) as connection, connection:
            connection.execute(
                "UPDATE experiments SET artifact_location = ? WHERE experiment_id = 0",
                (f"{database.parent}/artifacts/0",),
            )
        new.rename(database)

    return copy
