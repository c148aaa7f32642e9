"""One version behind real HTTP, in this process: index, event log and experiment in temporary folders."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from immr.settings import Settings
from serving.bento.answering import VersionService
from serving.bento.app import create_version_app
from tests.serving import real_services
from tests.support import tiny_version


@dataclass
class Server:
    """A uvicorn server in a thread."""

    url: str
    thread: threading.Thread
    uvicorn: uvicorn.Server

    def stop(self) -> None:
        self.uvicorn.should_exit = True
        self.thread.join(timeout=20)


def serve(app: FastAPI) -> Server:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    while not server.started:
        assert thread.is_alive(), "uvicorn ended"
        time.sleep(0.01)
    return Server(url, thread, server)


def wait_ready(url: str) -> httpx.Response:
    for _ in range(1200):  # a busy machine takes its time
        answer = httpx.get(f"{url}/health/ready")
        if answer.status_code == 200:
            return answer
        time.sleep(0.05)
    raise AssertionError(answer.text)


@contextmanager
def served_version(settings: Settings, folder: Path) -> Iterator[str]:
    """The Bento's application on uvicorn, started and stopped as BentoML does it."""
    service = VersionService(folder, settings)
    app = create_version_app(service)
    asyncio.run(service.start())
    server = serve(app)
    try:
        yield server.url
    finally:
        server.stop()
        asyncio.run(service.stop())


@contextmanager
def in_threads(targets: Iterable[Callable[[], None]], done: threading.Event) -> Iterator[None]:
    """Run them beside the block; `done` tells them of its end."""
    threads = [threading.Thread(target=target) for target in targets]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join(timeout=60)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which version immr-1 is packaged and indexed, as is immr-2."""
    home = tmp_path_factory.mktemp("home")
    settings = Settings(home=home)
    catalogue = tiny_version.items(home / "pictures")
    for number in (1, 2):
        folder = tiny_version.write_packaged(home / f"immr-{number}", number)
        tiny_version.build_index(settings, folder, catalogue, number)
    return home


@pytest.fixture(scope="module")
def settings(home: Path) -> Settings:
    return Settings(home=home)


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    """Of a process that serves one of the home's versions."""
    return {**os.environ, **Settings(home=home).environment(), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def bento_url(home: Path, settings: Settings) -> Iterator[str]:
    with served_version(settings, home / "immr-1") as url:
        wait_ready(url)
        yield url


@pytest.fixture(scope="module")
def challenger_url(home: Path, settings: Settings) -> Iterator[str]:
    with served_version(settings, home / "immr-2") as url:
        wait_ready(url)
        yield url


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real_services.Services]:
    with real_services.running(tmp_path_factory.mktemp("services")) as services:
        yield services
