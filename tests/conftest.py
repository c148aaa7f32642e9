"""Set-up that tests share because it is expensive, and the order in which they run."""

import gc
import os
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import hypothesis
import pytest

# read when the libraries are imported: kernels run on the CPU, and waiting threads of several workers do not spin
os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from immr.data.training_set import TrainingSet
from tests.support.postgres_server import PostgresServer
from tests.support.scheduling import RoomsAndOneSpark, end_of

# a busy machine is not a fault of the code, and a test has its own time limit
hypothesis.settings.register_profile("immr", deadline=None)
hypothesis.settings.load_profile("immr")

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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> RoomsAndOneSpark:
    return RoomsAndOneSpark(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str, report: Any) -> None:
    report.longrepr = f"{report.longrepr} ({end_of(report.node.gateway._io.popen)})"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Without garbage collection, and what it imports is exempt later.

    A full collection of the libraries' objects takes 0.8 s, and each server that a test starts in its process asks
    for one.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


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
    from immr.model.encoders import onnx_graph
    from immr.registry import store
    from tests.support import mlflow_template, shared_by_workers

    folder = shared_by_workers.run_folder(tmp_path_factory)
    template = folder / "mlflow-template" / "mlflow.db"
    with (
        mock.patch.object(store, "_create", mlflow_template.copier(template)),
        mock.patch.object(store, "_silence_mlflow", mlflow_template.revision_kept(store._silence_mlflow)),
        mock.patch.object(onnx_graph, "_export", shared_by_workers.exported_once(folder / "encoders")),
    ):
        yield
