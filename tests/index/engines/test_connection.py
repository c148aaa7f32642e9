"""Requests to a server whose first connections fail, as when a peer behind the Service stops or its node is lost."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from immr.index.engines import connection
from immr.index.engines.connection import RepeatBudget

FOUND = {"result": {"points": []}, "status": "ok", "time": 0.0}
DONE = {"result": {"operation_id": 0, "status": "completed"}, "status": "ok", "time": 0.0}


class Service(ThreadingHTTPServer):
    """The next requests are handled as `plan` says (`drop`, `hang`, `fail`), later ones are answered."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan: list[str] = []
        self.requests: list[str] = []
        self.stopped = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has given up is expected."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Service

    def handle_request(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(f"{self.command} {self.path.split('?')[0]}")
        what = self.server.plan.pop(0) if self.server.plan else "answer"
        if what == "hang":
            self.server.stopped.wait(8)
        if what in ("drop", "hang"):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        body = json.dumps(FOUND if self.path.endswith("query") else DONE).encode()
        self.send_response(500 if what == "fail" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = handle_request

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as made:
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        made.stopped.set()
        made.shutdown()


def search(client: QdrantClient) -> None:
    client.query_points("immr_1", query=[1.0], limit=1)


@pytest.mark.parametrize("searches", [True, False])
def test_a_search_is_repeated_on_another_connection(service: Service, searches: bool) -> None:
    service.plan = ["drop", "drop"]
    with closing(connection.connect(service.url, 5, None, searches)) as client:
        search(client)
        assert len(service.requests) == 3
        service.plan = ["drop"] * 3
        with pytest.raises(ResponseHandlingException):
            search(client)
    assert len(service.requests) == 6


def test_a_shopper_does_not_wait_for_a_peer_whose_node_is_lost(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_SEARCH_TIMEOUT_S", 1.5)
    service.plan = ["hang"]
    with closing(connection.connect(service.url, 30, None, searches=True)) as client:
        started = time.monotonic()
        search(client)
        assert time.monotonic() - started < 5
    assert len(service.requests) == 2


def test_an_overloaded_server_does_not_get_every_search_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server: on a busy machine, a short timeout ends before the server has read the request."""
    sent: list[httpx.Request] = []

    def time_out(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        raise ResponseHandlingException(httpx.ReadTimeout("timed out"))

    monkeypatch.setattr(connection, "_TRIES", 2)
    with closing(connection.connect("http://127.0.0.1:1", 30, None, searches=True)) as client:
        monkeypatch.setattr(client.http.client, "send_inner", time_out)
        for _ in range(15):
            with pytest.raises(ResponseHandlingException):
                search(client)
    assert len(sent) == 15 + 10


def test_answers_earn_repeats() -> None:
    budget = RepeatBudget()
    assert [budget.take() for _ in range(11)] == [True] * 10 + [False]
    for _ in range(11):
        budget.answered()
    assert budget.take() and not budget.take()


def test_exact_searches_of_a_build_have_the_whole_time(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_SEARCH_TIMEOUT_S", 0.2)
    service.plan = ["hang"]
    with (
        closing(connection.connect(service.url, 1, None, searches=False)) as client,
        pytest.raises(ResponseHandlingException, match="timed out"),
    ):
        search(client)
    assert len(service.requests) == 1


def test_points_are_written_again_but_a_collection_is_not_created_twice(service: Service) -> None:
    """Qdrant refuses the second of two requests that create a collection, although the first did its work."""
    with closing(connection.connect(service.url, 5, None, searches=False)) as client:
        service.plan = ["drop"]
        client.upsert("immr_1", [models.PointStruct(id=1, vector=[1.0])])
        assert service.requests == ["PUT /collections/immr_1/points"] * 2
        service.plan = ["drop"]
        with pytest.raises(ResponseHandlingException):
            client.create_collection("immr_1", models.VectorParams(size=1, distance=models.Distance.COSINE))
    assert service.requests[2:] == ["PUT /collections/immr_1"]


def test_an_answer_is_final(service: Service) -> None:
    service.plan = ["fail"]
    with (
        closing(connection.connect(service.url, 5, None, searches=True)) as client,
        pytest.raises(UnexpectedResponse),
    ):
        search(client)
    assert len(service.requests) == 1


def test_a_build_outlasts_what_qdrant_waits_for_a_peer_that_is_down() -> None:
    """10 s until the collection's copies are active, and 10 s until all peers know the collection or alias."""
    assert connection.REQUEST_TIMEOUT_S > 20
