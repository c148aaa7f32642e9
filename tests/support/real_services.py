"""A Bento served by BentoML behind a gateway: processes, as in production."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from immr.deploy.bento_process import BentoProcess
from immr.deploy.deployer import Deployment
from immr.experiment.definition import CHAMPION, Experiment, Variant
from immr.experiment.file import save
from immr.packaging import bento as packaging
from immr.packaging.application import application_folder
from immr.search.ranking import RankingRecipe
from immr.settings import Settings
from tests.support import tiny_version
from tests.support.upstream_process import free_port, process_on

RECEIVE_TIMEOUT_S = 2
READY_TIMEOUT_S = 120


@dataclass(frozen=True)
class Services:
    """The addresses of a Bento and a gateway, each with metrics on a separate port."""

    settings: Settings
    bento: str
    gateway: str
    bento_metrics: str
    gateway_metrics: str


@contextmanager
def running(home: Path) -> Iterator[Services]:
    """Packages, indexes and serves immr-1, behind a gateway that routes all users to it."""
    settings = Settings(home=home)
    folder = tiny_version.write_packaged(home / "immr-1")
    tiny_version.build_index(settings, folder, tiny_version.items(home / "pictures"))
    with bento(settings, folder, (metrics := free_port())) as (_, bento_url):
        champion = Variant(CHAMPION, bento_url, "immr-1", 1.0)
        save(Experiment("real", "salt", (champion,)), settings.experiment_file)
        port, own = free_port(), free_port()
        command = [sys.executable, "-m", "serving.gateway", f"--port={port}"]
        with process_on(port, *command, env=_environment(settings, own)) as gateway_url:
            yield Services(
                settings, bento_url, gateway_url, f"http://127.0.0.1:{metrics}", f"http://127.0.0.1:{own}"
            )


@contextmanager
def bento(settings: Settings, folder: Path, metrics_port: int) -> Iterator[tuple[BentoProcess, str]]:
    """Builds and serves the version as a Bento; yields its process and URL once it is ready."""
    made = tiny_version.version()
    tag = packaging.build(
        made, folder, RankingRecipe(), application_folder() / "serving", settings.bento_home
    )
    deployment = Deployment("champion", made.id, tag, f"http://127.0.0.1:{free_port()}")
    environment = _environment(settings, metrics_port) | {"BENTOML_HOME": str(settings.bento_home)}
    process = BentoProcess.start(deployment, environment, settings.home / "deployments", deployment.role)
    try:
        process.wait_until_ready(time.monotonic() + READY_TIMEOUT_S)
        yield process, deployment.url
    finally:
        process.stop()


def open_connection(url: str) -> socket.socket:
    """A raw connection, for requests that no client would send."""
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname or "", parts.port or 80), timeout=60)


def answer_on(connection: socket.socket) -> httpx.Response:
    """Reads the next answer."""
    read = HTTPResponse(connection)
    read.begin()
    return httpx.Response(read.status, headers=read.getheaders(), content=read.read())


def _environment(settings: Settings, metrics_port: int) -> dict[str, str]:
    return {
        **os.environ,
        **settings.environment(),
        "OMP_NUM_THREADS": "1",
        "IMMR_RECEIVE_TIMEOUT_S": str(RECEIVE_TIMEOUT_S),
        "IMMR_METRICS_HOST": "127.0.0.1",
        "IMMR_METRICS_PORT": str(metrics_port),
    }
