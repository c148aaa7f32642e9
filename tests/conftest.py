"""Set-up that tests share because it is expensive, and how pytest-xdist distributes the tests."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

os.environ.setdefault(
    "TRITON_INTERPRET", "1"
)  # kernels run on the CPU; Triton reads this when it is imported

from xdist.scheduler import LoadFileScheduling

from immr.data.training_set import TrainingSet
from tests.support.postgres_server import PostgresServer

LONG_ROOMS = tuple(
    f"tests/{room}/"
    for room in (
        "governance",
        "train",
        "serving/scenarios",
        "launch",
        "pipelines",
        "loop",
        "model",
        "benchmarks",
    )
)


class FilesAndOneSpark(LoadFileScheduling):
    """All tests of a file in one process, and those on Spark in one too, because each process starts a JVM."""

    def _split_scope(self, nodeid: str) -> str:
        return "spark" if "[spark" in nodeid else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesAndOneSpark:
    return FilesAndOneSpark(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Rooms with long files first, so that no process is left with one at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG_ROOMS))


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "feature-cache"


@pytest.fixture(scope="session")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    from tests.support import tiny_training_set

    return tiny_training_set.write(tmp_path_factory.mktemp("training-set"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Shared by tests, each with its own schema or database; tests that stop a server start their own."""
    from tests.support import postgres_server

    with postgres_server.serving() as server:
        yield server


@pytest.fixture(scope="session")
def container_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The host of a real registry, and the folder with the login for DOCKER_CONFIG."""
    from tests.support import registry_process

    folder = tmp_path_factory.mktemp("container-registry")
    with registry_process.serving(folder) as host:
        yield host, folder


@pytest.fixture(scope="session", autouse=True)
def _made_once_for_all_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Migrated MLflow databases and exported image encoders are copies of the run's first."""
    from immr.model.encoders import graph
    from immr.registry import store
    from tests.support import mlflow_template, shared_by_workers

    folder = shared_by_workers.run_folder(tmp_path_factory)
    template = folder / "mlflow-template" / "mlflow.db"
    with (
        mock.patch.object(store, "_create", mlflow_template.copier(template)),
        mock.patch.object(graph, "_export", shared_by_workers.exported_once(folder / "encoders")),
    ):
        yield
