"""Homes with two registered versions."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from immr.settings import Settings
from immr.wiring import connect
from tests.support.two_versions import give_roles, move, ready, version_of


@pytest.fixture(scope="module")
def two_registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with immr-1 and immr-2, created once because its migrations take seconds."""
    home = tmp_path_factory.mktemp("registered")
    registry = connect(Settings(home=home)).registry
    for key in ("key-1", "key-2"):
        version_of(registry, home / "trained", key)
    return home / "mlflow" / "mlflow.db"


@pytest.fixture
def settings(tmp_path: Path, two_registered: Path) -> Settings:
    (tmp_path / "mlflow").mkdir()
    shutil.copyfile(two_registered, tmp_path / "mlflow" / "mlflow.db")
    return Settings(home=tmp_path)


@pytest.fixture
def deployed(settings: Settings) -> Iterator[Settings]:
    """immr-1 serves as champion, immr-2 as challenger; both answer."""
    give_roles(settings, {"champion": "immr-1", "challenger": "immr-2"})
    with ExitStack() as serving:
        move(settings, {each: serving.enter_context(ready(each)) for each in ("immr-1", "immr-2")})
        yield settings
