"""Reading MLflow's SQLite file directly gives what MLflow's client gives."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from mlflow.tracking import MlflowClient

from immr.registry import sqlite_reads
from immr.registry.registry import Registry
from tests.registry.conftest import register

FIELDS = ("name", "run_id", "source", "creation_timestamp", "tags")


def fields(entry: Any) -> list[Any]:
    return [int(entry.version), *(getattr(entry, name) for name in FIELDS)]


def test_roles_and_versions_equal_those_of_mlflow(registry: Registry, home: Path) -> None:
    database = home / "mlflow" / "mlflow.db"
    client = MlflowClient(f"sqlite:///{database}", f"sqlite:///{database}")
    assert (sqlite_reads.entries(database, "immr"), sqlite_reads.aliases(database, "immr")) == ([], {})
    versions = [register(registry, home, f"key-{number}") for number in range(3)]
    registry.set_role("champion", versions[0], reason="It is the first, isn't it?")
    registry.set_role("challenger", versions[2])
    client.delete_model_version("immr", "2")
    client.create_registered_model("another")
    found = sqlite_reads.entries(database, "immr")
    known = sorted(client.search_model_versions("name = 'immr'"), key=lambda entry: int(entry.version))
    assert found and [fields(entry) for entry in found] == [fields(entry) for entry in known]
    assert sqlite_reads.aliases(database, "immr") == {
        role: str(number) for role, number in client.get_registered_model("immr").aliases.items()
    }
    assert [entry.version for entry in found] == [1, 3]
    assert sqlite_reads.entries(database, "another") == []


def test_a_file_with_other_tables_is_left_to_mlflow(registry: Registry, home: Path) -> None:
    version = register(registry, home, "key")
    registry.set_role("champion", version)
    database = home / "mlflow" / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("ALTER TABLE model_version_tags RENAME TO renamed")
        connection.execute("ALTER TABLE registered_model_aliases RENAME TO renamed_too")
    assert (sqlite_reads.entries(database, "immr"), sqlite_reads.aliases(database, "immr")) == (None, None)


def test_a_registry_is_read_without_mlflow_and_without_creating_it(registry: Registry, home: Path) -> None:
    registry.set_role("champion", register(registry, home, "key"))
    program = (
        "import sys; from pathlib import Path; from immr.registry.registry import Registry; "
        "homes = [Path(home) for home in sys.argv[1:]]; "
        "read = [Registry(f'sqlite:///{home}/mlflow/mlflow.db', 'immr', home / 'log') for home in homes]; "
        "print([(len(one.versions()), list(one.roles())) for one in read], 'mlflow' in sys.modules)"
    )
    empty = home.parent / "empty"
    done = subprocess.run(
        [sys.executable, "-c", program, str(home), str(empty)], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "[(1, ['champion']), (0, [])] False", done.stderr
    assert not empty.exists()
