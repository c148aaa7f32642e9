"""Bento and gateway over real HTTP, in threads of the test's process: no start-up to wait for."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI

from immr.settings import Settings
from immr.wiring import connect
from serving.bento.answering import VersionService
from serving.bento.app import create_version_app
from serving.gateway.app import create_gateway_app
from serving.gateway.split import MAX_IN_PROGRESS, Gateway
from serving.process.options import ServingOptions
from tests.support import http_client
from tests.support.patience import until


@dataclass
class Server:
    """A uvicorn server in a thread."""

    url: str
    thread: threading.Thread
    uvicorn: uvicorn.Server

    def stop(self) -> None:
        self.uvicorn.should_exit = True
        self.thread.join(timeout=20)


def serve(app: FastAPI, port: int = 0, server_class: type[uvicorn.Server] = uvicorn.Server) -> Server:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    server = server_class(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    until(lambda: server.started or not thread.is_alive(), pause_s=0.01)
    assert server.started, "uvicorn ended"
    return Server(f"http://127.0.0.1:{listener.getsockname()[1]}", thread, server)


def wait_ready(url: str) -> None:
    until(
        lambda: http_client.get(f"{url}/health/ready").status_code == 200,
        context=lambda: http_client.get(f"{url}/health/ready").text,
    )


@contextmanager
def served_version(
    settings: Settings,
    folder: Path,
    options: ServingOptions | None = None,
    max_in_progress: int | None = None,
    port: int = 0,
) -> Iterator[str]:
    """The Bento's application, started and stopped as BentoML does it; may not be ready yet."""
    service = VersionService(folder, connect(settings), max_in_progress=max_in_progress)
    with served_service(service, options, port) as url:
        yield url


@contextmanager
def served_service(
    service: VersionService, options: ServingOptions | None = None, port: int = 0
) -> Iterator[str]:
    """A service's application, started and stopped as BentoML does it."""
    app = create_version_app(service, options)
    asyncio.run(service.start())
    server = serve(app, port)
    try:
        yield server.url
    finally:
        server.stop()
        asyncio.run(service.stop())


@contextmanager
def ready_version(
    settings: Settings,
    folder: Path,
    options: ServingOptions | None = None,
    max_in_progress: int | None = None,
) -> Iterator[str]:
    with served_version(settings, folder, options, max_in_progress) as url:
        wait_ready(url)
        yield url


@contextmanager
def served_gateway(
    settings: Settings,
    timeout_s: float = 5.0,
    max_in_progress: int = MAX_IN_PROGRESS,
    options: ServingOptions | None = None,
) -> Iterator[httpx.Client]:
    """A client of a gateway; `base_url` is its address."""
    server = serve(create_gateway_app(Gateway(connect(settings), timeout_s, max_in_progress), options))
    with httpx.Client(base_url=server.url, timeout=20, trust_env=False) as client:
        try:
            yield client
        finally:
            server.stop()


@contextmanager
def in_threads(targets: Iterable[Callable[[], None]], done: threading.Event) -> Iterator[None]:
    """Runs functions in threads for the duration of the block, and sets `done` at its end."""
    threads = [threading.Thread(target=target) for target in targets]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join(timeout=60)
