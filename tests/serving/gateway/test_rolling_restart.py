"""A gateway gives way to the next one, as Kubernetes does it, under load: no request that was sent fails.

The next one is ready, new connections go to it alone (endpoints, preStop), and then SIGTERM comes.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest
import urllib3

from immr.experiment.definition import save
from immr.settings import Settings
from tests.serving.conftest import in_threads
from tests.serving.gateway.test_app import alone
from tests.serving.real_services import answer_on
from tests.support import tiny_version
from tests.support.patience import until
from tests.support.upstream_process import await_port, free_port

RED = tiny_version.photo("red")
Ask = Callable[[], tuple[int, bool]]


@dataclass
class Service:
    """Who connects is sent to one of these in turn, and stays there while the connection lasts."""

    ports: list[int]
    turn: Iterator[int] = field(default_factory=itertools.count)

    def port(self) -> int:
        return self.ports[next(self.turn) % len(self.ports)]


class BalancedBackend(httpcore.SyncBackend):
    """httpx's connections, but for where they go."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> httpcore.NetworkStream:
        return super().connect_tcp("127.0.0.1", self.service.port(), *args, **options)


@contextmanager
def by_httpx(service: Service) -> Iterator[Ask]:
    transport = httpx.HTTPTransport()
    transport._pool = httpcore.ConnectionPool(network_backend=BalancedBackend(service))
    with httpx.Client(transport=transport, base_url="http://service", timeout=30) as client:

        def ask() -> tuple[int, bool]:
            answer = client.post("/v1/search", files={"image": RED})
            return answer.status_code, answer.headers.get("connection") == "close"

        yield ask


@contextmanager
def by_urllib3(service: Service) -> Iterator[Ask]:
    class Balanced(urllib3.connection.HTTPConnection):
        def _new_conn(self) -> socket.socket:
            self.port = service.port()
            return super()._new_conn()

    pool = urllib3.HTTPConnectionPool("127.0.0.1", timeout=30, retries=False)
    pool.ConnectionCls = Balanced  # type: ignore[assignment]

    def ask() -> tuple[int, bool]:
        answer = pool.request("POST", "/v1/search", fields={"image": ("a.jpg", RED)})
        return answer.status, answer.headers.get("connection") == "close"

    with pool:
        yield ask


@contextmanager
def on_a_connection_each(service: Service) -> Iterator[Ask]:
    def asking() -> tuple[int, bool]:
        with by_httpx(service) as ask:
            return ask()

    yield asking


@dataclass
class Shoppers:
    """What they got, one list each: statuses or errors."""

    answers: list[list[str]] = field(default_factory=list)
    parted: int = 0
    """Answers that said that the connection ends with them."""
    done: threading.Event = field(default_factory=threading.Event)

    def each_got(self, more: int) -> None:
        wanted = [len(own) + more for own in self.answers]
        until(
            lambda: all(len(own) >= count for own, count in zip(self.answers, wanted, strict=True)),
            told=lambda: [own[-3:] for own in self.answers],
        )

    def shop(self, client: AbstractContextManager[Ask], pause_s: float) -> None:
        self.answers.append(own := [])
        with client as ask:
            while not self.done.wait(pause_s):
                try:
                    status, parted = ask()
                    own.append(str(status))
                    self.parted += parted
                except (httpx.HTTPError, urllib3.exceptions.HTTPError) as error:
                    own.append(repr(error))


@contextmanager
def shoppers(service: Service) -> Iterator[Shoppers]:
    made = Shoppers()
    kinds = [(by_httpx, 0), (by_httpx, 0.05), (by_httpx, 1.5), (by_urllib3, 0), (by_urllib3, 0.05)]
    kinds += [(by_urllib3, 1.5), (on_a_connection_each, 0.02)]
    targets = [partial(made.shop, client(service), pause_s) for client, pause_s in kinds]
    with in_threads(targets, made.done):
        yield made


@contextmanager
def gateway(home: Path, bento_url: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """One that serves: its port and its process."""
    settings = Settings(home=home)
    save(alone(bento_url), settings.experiment_file)
    command = [sys.executable, "-m", "serving.gateway", f"--port={(port := free_port())}"]
    process = subprocess.Popen(command, env={**os.environ, **settings.environment()})
    try:
        await_port(process, port)
        yield port, process
    finally:
        process.kill()
        process.wait()


def test_no_request_fails_while_one_gateway_gives_way_to_the_next(bento_url: str, tmp_path: Path) -> None:
    with gateway(tmp_path / "old", bento_url) as (old_port, old):
        service = Service([old_port])
        with shoppers(service) as asking:
            asking.each_got(2)
            with gateway(tmp_path / "new", bento_url) as (new_port, _):
                service.ports = [old_port, new_port]
                asking.each_got(2)
                service.ports = [new_port]
                time.sleep(0.5)  # preStop
                assert asking.parted == 0
                old.send_signal(signal.SIGTERM)
                assert old.wait(timeout=20) in (0, -signal.SIGTERM)
                asking.each_got(2)
                asking.done.set()
                failed = [answer for own in asking.answers for answer in own if answer != "200"]
                assert failed == [], f"of {sum(map(len, asking.answers))}"
                assert asking.parted > 0, "some kept their connection to the old one"


@pytest.fixture
def one_gateway(bento_url: str, tmp_path: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    with gateway(tmp_path, bento_url) as started:
        yield started


HEALTH = b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n"


def test_connections_that_are_kept_end_with_an_answer_that_says_so(
    one_gateway: tuple[int, subprocess.Popen[bytes]],
) -> None:
    """One idle, one that has begun to write, one that comes later: each as SIGTERM comes."""
    port, process = one_gateway
    idle, writing = (socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(2))
    with idle, writing:
        for connection in (idle, writing):
            connection.sendall(HEALTH)
            assert answer_on(connection).headers.get("connection") != "close"
        writing.sendall(HEALTH[:10])
        process.send_signal(signal.SIGTERM)
        time.sleep(1.0)
        writing.sendall(HEALTH[10:])
        idle.sendall(HEALTH)
        with socket.create_connection(("127.0.0.1", port), timeout=20) as later:
            later.sendall(HEALTH)
            for connection in (idle, writing, later):
                answer = answer_on(connection)
                assert (answer.status_code, answer.headers["connection"]) == (200, "close")
                assert connection.recv(1) == b""
        start = time.monotonic()
        assert process.wait(timeout=20) in (0, -signal.SIGTERM)
        assert time.monotonic() - start < 4, "nobody was left to wait for"


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]])
def test_who_is_in_a_hurry_is_not_kept_waiting(
    one_gateway: tuple[int, subprocess.Popen[bytes]], signals: list[signal.Signals]
) -> None:
    port, process = one_gateway
    with socket.create_connection(("127.0.0.1", port), timeout=20) as idle:
        idle.sendall(HEALTH)
        assert answer_on(idle).status_code == 200
        start = time.monotonic()
        for each in signals:
            process.send_signal(each)
            time.sleep(0.3)
        process.wait(timeout=20)
        assert time.monotonic() - start < 4
