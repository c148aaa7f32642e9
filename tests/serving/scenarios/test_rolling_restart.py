"""A gateway is replaced under load, as Kubernetes does it, and no request fails.

Once the next one is ready, new connections go to it alone (endpoints, preStop); then SIGTERM is sent.
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

from immr.experiment.file import save
from immr.settings import Settings
from immr.wiring import connect
from serving.gateway.app import create_gateway_app
from serving.gateway.split import Gateway
from serving.process.draining import KEEP_ALIVE_S, DrainingServer
from tests.support import tiny_version
from tests.support.in_process import Server, in_threads, serve
from tests.support.patience import until
from tests.support.real_services import answer_on, open_connection
from tests.support.shopper import alone
from tests.support.upstream_process import await_port, free_port

RED = tiny_version.photo("red")
Ask = Callable[[], tuple[int, bool]]


@dataclass
class Service:
    """A load balancer: each new connection goes to the next of these ports, and stays there."""

    ports: list[int]
    turn: Iterator[int] = field(default_factory=itertools.count)

    def port(self) -> int:
        return self.ports[next(self.turn) % len(self.ports)]


class BalancedBackend(httpcore.SyncBackend):
    """Connects httpx through the load balancer."""

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
    """The statuses or errors of each shopper."""

    answers: list[list[str]] = field(default_factory=list)
    parted: int = 0
    """Answers that announced the end of their connection."""
    done: threading.Event = field(default_factory=threading.Event)

    def each_got(self, more: int) -> None:
        wanted = [len(own) + more for own in self.answers]
        until(
            lambda: all(len(own) >= count for own, count in zip(self.answers, wanted, strict=True)),
            context=lambda: [own[-3:] for own in self.answers],
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
    """A gateway that serves: its port and its process."""
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


@pytest.mark.slow
def test_no_request_fails_while_a_gateway_is_replaced(bento_url: str, tmp_path: Path) -> None:
    with gateway(tmp_path / "old", bento_url) as (old_port, old):
        service = Service([old_port])
        with shoppers(service) as asking:
            asking.each_got(2)
            with gateway(tmp_path / "new", bento_url) as (new_port, _):
                service.ports = [old_port, new_port]
                asking.each_got(2)
                service.ports = [new_port]
                time.sleep(0.5)  # as preStop does on a cluster: new connections go elsewhere first
                assert asking.parted == 0
                old.send_signal(signal.SIGTERM)
                assert old.wait(timeout=20) in (0, -signal.SIGTERM)
                asking.each_got(2)
                asking.done.set()
                failed = [answer for own in asking.answers for answer in own if answer != "200"]
                assert failed == [], f"of {sum(map(len, asking.answers))}"
                assert asking.parted > 0, "some clients kept their connection to the old one"


class Draining(DrainingServer):
    """Without signals, which only the main thread of a process gets."""

    def receive(self, *signals: signal.Signals) -> None:
        for each in signals:
            self.handle_exit(each, None)


@pytest.fixture
def draining(tmp_path: Path) -> Iterator[Server]:
    server = serve(create_gateway_app(Gateway(connect(Settings(home=tmp_path)))), server_class=Draining)
    yield server
    server.stop()


def receive(server: Server, *signals: signal.Signals) -> None:
    assert isinstance(server.uvicorn, Draining)
    server.uvicorn.receive(*signals)


HEALTH = b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n"


def test_a_kept_connection_is_closed_with_an_answer_that_announces_it(draining: Server) -> None:
    """One connection idles, one has begun to send, one is opened later."""
    idle, sending = (open_connection(draining.url) for _ in range(2))
    with idle, sending:
        for connection in (idle, sending):
            connection.sendall(HEALTH)
            assert answer_on(connection).headers.get("connection") != "close"
        sending.sendall(HEALTH[:10])
        receive(draining, signal.SIGTERM)
        until(lambda: closes_new_connections(draining))
        sending.sendall(HEALTH[10:])
        idle.sendall(HEALTH)
        with open_connection(draining.url) as later:
            later.sendall(HEALTH)
            for connection in (idle, sending, later):
                answer = answer_on(connection)
                assert (answer.status_code, answer.headers["connection"]) == (200, "close")
                assert connection.recv(1) == b""
        start = time.monotonic()
        draining.thread.join(timeout=20)
        assert time.monotonic() - start < 4, "there was no connection left to wait for"


def test_connections_that_a_proxy_keeps_do_not_hold_up_a_drain(
    draining: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy in front may keep them for an hour; one that it has just used may be used again."""
    monkeypatch.setattr("serving.process.draining._IDLE_S", 1.0)
    monkeypatch.setattr(draining.uvicorn.config, "timeout_keep_alive", KEEP_ALIVE_S)
    with open_connection(draining.url) as kept:
        kept.sendall(HEALTH)
        assert answer_on(kept).status_code == 200
        time.sleep(0.5)
        receive(draining, signal.SIGTERM)
        start = time.monotonic()
        assert kept.recv(1) == b"", "closed"
        assert 0.2 < time.monotonic() - start < 3
        draining.thread.join(timeout=20)
        assert time.monotonic() - start < 5


def test_a_gateway_keeps_connections_longer_than_proxies() -> None:
    assert KEEP_ALIVE_S > 60


def closes_new_connections(server: Server) -> bool:
    with open_connection(server.url) as probe:
        probe.sendall(HEALTH)
        return answer_on(probe).headers.get("connection") == "close"


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]])
def test_sigint_and_a_second_sigterm_stop_at_once(draining: Server, signals: list[signal.Signals]) -> None:
    with open_connection(draining.url) as idle:
        idle.sendall(HEALTH)
        assert answer_on(idle).status_code == 200
        start = time.monotonic()
        receive(draining, *signals)
        draining.thread.join(timeout=20)
        assert not draining.thread.is_alive() and time.monotonic() - start < 4
