"""Set-up that tests share because it is expensive, and how pytest-xdist distributes the tests."""

import os
import tempfile
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


class RoomsAndOneSpark(LoadFileScheduling):
    """All tests of a file in one process, and those on Spark in one too, because each process starts a JVM.

    A process takes the next file from the room it is in, whose libraries it has imported and whose servers it has
    started. It leaves for a room of its own when none of them is left, and helps another process last.
    """

    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        self._rooms: dict[Any, str] = {}

    def _split_scope(self, nodeid: str) -> str:
        return "spark" if "[spark" in nodeid else str(super()._split_scope(nodeid))

    def _assign_work_unit(self, node: Any) -> None:
        taken = {room for other, room in self._rooms.items() if other is not node}
        stays = [scope for scope in self.workqueue if _room(scope) == self._rooms.get(node)]
        free = [scope for scope in self.workqueue if _room(scope) not in taken]
        chosen = [*stays, *free, *self.workqueue][0]
        self._rooms[node] = _room(chosen)
        self.workqueue.move_to_end(chosen, last=False)
        super()._assign_work_unit(node)


def _room(scope: str) -> str:
    """The folder below `tests/`; the Spark tests are in governance."""
    return "governance" if scope == "spark" else scope.split("/")[1]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> RoomsAndOneSpark:
    return RoomsAndOneSpark(config, log)


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
def _own_temporary_folder() -> Iterator[None]:
    """What libraries and killed processes leave in the temporary folder goes when the tests have ended.

    It is not below pytest's, whose path is too long for sockets and closed to the user that runs PostgreSQL.
    """
    with (
        tempfile.TemporaryDirectory(prefix="immr-tests-", ignore_cleanup_errors=True) as folder,
        mock.patch.dict(os.environ, TMPDIR=folder, JAVA_TOOL_OPTIONS=f"-Djava.io.tmpdir={folder}"),
        mock.patch.object(tempfile, "tempdir", folder),
    ):
        Path(folder).chmod(0o711)
        yield


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
