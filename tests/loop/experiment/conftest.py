"""Homes with two registered versions, and with four."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from immr.settings import Settings
from immr.types import ALL_ROLES
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


@pytest.fixture
def three_challengers(settings: Settings) -> Iterator[Settings]:
    """immr-1 serves as champion; immr-2, immr-3 and immr-4 serve as challengers; all answer."""
    several = Settings(home=settings.home, challengers=3)
    for key in ("key-3", "key-4"):
        version_of(connect(several).registry, several.home / "trained", key)
    held = {role: f"immr-{number}" for number, role in enumerate(ALL_ROLES[:4], start=1)}
    give_roles(several, held)
    with ExitStack() as serving:
        move(several, {each: serving.enter_context(ready(each)) for each in held.values()})
        yield several
