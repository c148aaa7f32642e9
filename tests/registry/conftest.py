"""An empty registry for each test, copied from one that is migrated once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from immr.registry.registry import Registry


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mlflow template")
    Registry(f"sqlite:///{folder}/mlflow.db", "immr", folder / "promotions.jsonl").versions()
    return folder / "mlflow.db"


@pytest.fixture
def home(tmp_path: Path, migrated_database: Path) -> Path:
    """A home with a space in its path and an empty registry."""
    folder = tmp_path / "a home"
    (folder / "mlflow").mkdir(parents=True)
    shutil.copyfile(migrated_database, folder / "mlflow" / "mlflow.db")
    return folder


@pytest.fixture
def registry(home: Path) -> Registry:
    return open_registry(home)


def open_registry(home: Path) -> Registry:
    return Registry(f"sqlite:///{home}/mlflow/mlflow.db", "immr", home / "promotions.jsonl")
