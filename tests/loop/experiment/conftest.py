"""Homes with two registered versions, and with four."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from immr.settings import Settings
from immr.types import ALL_ROLES
from immr.wiring import connect
from tests.support.two_versions import give_roles, move, ready, version_of


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def two_deployed(two_registered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which immr-1 is champion and immr-2 challenger, to copy."""
    home = tmp_path_factory.mktemp("two-deployed")
    (home / "mlflow").mkdir()
    shutil.copyfile(two_registered, home / "mlflow" / "mlflow.db")
    give_roles(Settings(home=home), {"champion": "immr-1", "challenger": "immr-2"})
    return home


@pytest.fixture
def deployed(tmp_path: Path, two_deployed: Path) -> Iterator[Settings]:
    """immr-1 serves as champion, immr-2 as challenger; both answer."""
    with _served(tmp_path, two_deployed, "immr-1", "immr-2") as settings:
        yield settings


@pytest.fixture(scope="session")
def four_deployed(two_registered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which immr-1 is champion and immr-2, immr-3 and immr-4 are challengers, to copy."""
    home = tmp_path_factory.mktemp("four-deployed")
    (home / "mlflow").mkdir()
    shutil.copyfile(two_registered, home / "mlflow" / "mlflow.db")
    settings = Settings(home=home, challengers=3)
    for key in ("key-3", "key-4"):
        version_of(connect(settings).registry, home / "trained", key)
    give_roles(settings, {role: f"immr-{number}" for number, role in enumerate(ALL_ROLES[:4], start=1)})
    return home


@pytest.fixture
def three_challengers(tmp_path: Path, four_deployed: Path) -> Iterator[Settings]:
    """immr-1 serves as champion; immr-2, immr-3 and immr-4 serve as challengers; all answer."""
    with _served(tmp_path, four_deployed, "immr-1", "immr-2", "immr-3", "immr-4") as settings:
        yield settings


@contextmanager
def _served(home: Path, template: Path, *versions: str) -> Iterator[Settings]:
    """The home, a copy of the template, while its versions answer."""
    shutil.copytree(template, home, dirs_exist_ok=True)
    # events of these tests span minutes
    settings = Settings(home=home, challengers=len(versions) - 1, min_test_days=0)
    with ExitStack() as serving:
        move(settings, {each: serving.enter_context(ready(each)) for each in versions})
        yield settings
