"""Moved and copied homes: MLflow's artifact paths follow, and the first home is never touched."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from immr.errors import RegistryError
from immr.registry.registry import Registry
from immr.registry.relocation import relocate_artifacts
from tests.registry.conftest import open_registry, register


def files_of(home: Path) -> dict[Path, bytes]:
    """Every file below `home/mlflow/artifacts` with its content."""
    artifacts = home / "mlflow" / "artifacts"
    return {path.relative_to(home): path.read_bytes() for path in artifacts.rglob("*") if path.is_file()}


def stored_paths(home: Path) -> str:
    """The SQLite file as text."""
    with closing(sqlite3.connect(home / "mlflow" / "mlflow.db")) as connection:
        return "\n".join(connection.iterdump())


def test_a_moved_home_finds_its_files(registry: Registry, home: Path, tmp_path: Path) -> None:
    version = register(registry, home, "key-1")
    moved = home.rename(tmp_path / "moved ü#")
    found = open_registry(moved)
    folder = found.fetch(version, moved / "cache")
    assert folder.is_relative_to(moved)
    assert (folder / "card.json").read_text() == "{}"
    assert register(found, moved, "key-2").number == 2
    assert str(home) not in stored_paths(moved) and home.as_uri() not in stored_paths(moved)
    assert not home.exists()


def test_a_copied_home_never_touches_the_first(registry: Registry, home: Path, tmp_path: Path) -> None:
    version = register(registry, home, "key-1")
    copy = shutil.copytree(home, tmp_path / "copy")
    before = files_of(home)
    found = open_registry(copy)
    folder = found.fetch(version, copy / "cache")
    assert folder.is_relative_to(copy)
    found.restore(version, copy / "trained")
    unfinished = found.runs.start("concept", {}, key="key-2")
    found.runs.log_report(unfinished, copy / "trained" / "card.json", "gallery.html")
    assert register(found, copy, "key-2").number == 2
    assert files_of(home) == before
    assert len(files_of(copy)) > len(before)
    assert open_registry(home).fetch(version, home / "cache").is_relative_to(home)


def test_a_copy_made_before_the_first_version_uses_its_own_folder(
    registry: Registry, home: Path, tmp_path: Path
) -> None:
    registry.runs.start("concept", {}, key="key-1")
    copy = shutil.copytree(home, tmp_path / "copy")
    register(open_registry(copy), copy, "key-1")
    assert not files_of(home)
    assert files_of(copy)


def test_a_home_behind_a_link_is_the_same_home(registry: Registry, home: Path, tmp_path: Path) -> None:
    register(registry, home, "key-1")
    before = stored_paths(home)
    (tmp_path / "link").symlink_to(home)
    assert len(open_registry(tmp_path / "link").versions()) == 1
    assert stored_paths(home) == before


@pytest.mark.parametrize("location", ["s3://bucket/artifacts", "file:///data/mlruns", "mlflow-artifacts:/1"])
def test_a_location_chosen_by_the_user_stays(home: Path, location: str) -> None:
    database = home / "mlflow" / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "INSERT INTO experiments (name, artifact_location, workspace) VALUES ('immr', ?, 'default')",
            (location,),
        )
    relocate_artifacts(database, "immr", home / "mlflow" / "artifacts")
    assert location in stored_paths(home)


def test_a_file_that_is_not_a_database_is_an_error(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    database.write_text("not a database, but long enough to look like one\n" * 50)
    with pytest.raises(RegistryError, match=r"mlflow\.db cannot be read"):
        relocate_artifacts(database, "immr", tmp_path / "artifacts")
