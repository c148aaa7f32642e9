"""What all MLflow databases of a run have in common: one migrated database, and the schema's newest revision.

MLflow takes seconds to migrate a new SQLite database, so it is created once and copied. Processes that tests start
still create their own. To know the newest revision, MLflow runs its 68 migration scripts for each database that it
opens, which is half of the time that it takes.
"""

from __future__ import annotations

import functools
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

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


def revision_kept(silence: Callable[[], None]) -> Callable[[], None]:
    """A replacement for `store._silence_mlflow` after which MLflow looks up the newest revision once."""

    def silenced() -> None:
        silence()
        import mlflow.store.db.utils

        utils: Any = mlflow.store.db.utils
        newest = utils._get_latest_schema_revision
        if not hasattr(newest, "cache_clear"):
            utils._get_latest_schema_revision = functools.cache(newest)

    return silenced
