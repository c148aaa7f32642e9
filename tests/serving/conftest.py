"""Two versions behind real HTTP in this process, and a real Bento with a gateway: each started once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from immr.experiment.file import save
from immr.settings import Settings
from tests.support import real_services, tiny_version
from tests.support.in_process import ready_version, served_gateway
from tests.support.shopper import alone


def build_home(home: Path) -> Path:
    """Packages and indexes immr-1 and immr-2, with the same catalogue."""
    settings = Settings(home=home)
    catalogue = tiny_version.items(home / "pictures")
    for number in (1, 2):
        folder = tiny_version.write_packaged(home / f"immr-{number}", number)
        tiny_version.build_index(settings, folder, catalogue, number)
    return home


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of `bento_url` and `challenger_url`, which hold its indexes open."""
    return build_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def free_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose versions a test may serve itself."""
    return build_home(tmp_path_factory.mktemp("free-home"))


@pytest.fixture
def environment(free_home: Path) -> dict[str, str]:
    """Of a process that serves one of `free_home`'s versions."""
    return {**os.environ, **Settings(home=free_home).environment(), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def settings(home: Path) -> Settings:
    return Settings(home=home)


@pytest.fixture
def own_settings(tmp_path: Path, settings: Settings) -> Settings:
    """An empty home, with the key that `bento_url` signs with."""
    return Settings(home=tmp_path, token_key_file=settings.token_key_file)


@pytest.fixture(scope="session")
def bento_url(home: Path, settings: Settings) -> Iterator[str]:
    with ready_version(settings, home / "immr-1") as url:
        yield url


@pytest.fixture(scope="module")
def gateway_url(bento_url: str, settings: Settings) -> Iterator[str]:
    """A gateway that gives all users the champion immr-1."""
    save(alone(bento_url), settings.experiment_file)
    with served_gateway(settings) as gateway:
        yield str(gateway.base_url).rstrip("/")


@pytest.fixture(scope="session")
def challenger_url(home: Path, settings: Settings) -> Iterator[str]:
    with ready_version(settings, home / "immr-2") as url:
        yield url


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real_services.Services]:
    with real_services.running(tmp_path_factory.mktemp("services")) as services:
        yield services
