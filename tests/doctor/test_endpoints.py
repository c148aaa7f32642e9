"""URLs of services that answer, are down, or that no adapter understands."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from immr.doctor.endpoints import check_url
from tests.support.postgres_server import PostgresServer
from tests.support.stand_in_server import JsonHandler, served


@contextmanager
def listening(answer: bytes = b"") -> Iterator[int]:
    """A server that gives the same answer to everything; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            try:
                while True:
                    connection, _ = server.accept()
                    with connection:
                        while answer and connection.recv(4096):
                            connection.sendall(answer)
            except OSError:
                return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@contextmanager
def answering(status: int) -> Iterator[str]:
    class Handler(JsonHandler):
        def do_GET(self) -> None:
            self.answer({}, status)

    with served(Handler) as url:
        yield url


@pytest.mark.parametrize(
    "url",
    [
        "kafka://127.0.0.1:9/immr-events",
        "kafka://127.0.0.1:9,127.0.0.1:10/immr-events?security.protocol=SSL",
        "postgresql://immr@127.0.0.1:9/immr",
        "redis://127.0.0.1:9/0",
        "http://127.0.0.1:9/mlflow",
    ],
)
def test_a_service_that_is_down_is_found(url: str) -> None:
    found = check_url("IMMR_X_URL", url)
    assert not found.ok
    assert "refused" in found.found and "correct IMMR_X_URL" in found.remedy


def test_one_broker_that_accepts_connections_is_enough() -> None:
    with listening() as port:
        found = check_url("IMMR_EVENTS_URL", f"kafka://127.0.0.1:9,127.0.0.1:{port}/immr-events")
    assert found.ok and f"127.0.0.1:{port} accepts connections" in found.found


@pytest.mark.parametrize(
    ("answer", "ok"), [(b"+PONG\r\n", True), (b"-NOAUTH Authentication required.\r\n", False)]
)
def test_redis_must_answer_ping(answer: bytes, ok: bool) -> None:
    with listening(answer) as port:
        found = check_url("IMMR_FEATURES_URL", f"redis://127.0.0.1:{port}/0")
    assert found.ok == ok


def test_postgresql_must_accept_the_user(postgres: PostgresServer) -> None:
    found = check_url("IMMR_EVENTS_URL", postgres.url)
    assert found.ok and "lets immr in" in found.found
    stranger = check_url("IMMR_EVENTS_URL", postgres.url.replace("immr@", "stranger:hunter2@"))
    assert not stranger.ok and "stranger" in stranger.found and "hunter2" not in stranger.found


@pytest.mark.parametrize(("status", "ok"), [(200, True), (401, True), (404, True), (503, False)])
def test_a_4xx_answer_is_fine_and_a_5xx_is_not(status: int, ok: bool) -> None:
    with answering(status) as url:
        assert check_url("IMMR_TRACKING_URL", f"{url}/prefix").ok == ok


def test_a_cluster_url_is_read() -> None:
    assert check_url("IMMR_LAUNCH_URL", "kubeflow://immr?gpus=1").ok
    wrong = check_url("IMMR_DEPLOY_URL", "kserve://immr?replicas=1")
    assert not wrong.ok and "'replicas'" in wrong.found


def test_an_object_store_must_list_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    found = check_url("IMMR_PIXELS_URL", "s3://bucket/pixels")
    assert not found.ok and "AWS_ENDPOINT_URL" in found.found


def test_an_unknown_scheme_is_not_fine() -> None:
    found = check_url("IMMR_ENGINE_URL", "postgres://host")
    assert not found.ok and "no adapter" in found.found


def test_a_password_is_not_shown() -> None:
    assert "secret" not in check_url("IMMR_FEATURES_URL", "redis://:secret@127.0.0.1:9").found


def test_a_service_of_another_protocol_is_not_fine() -> None:
    with listening(b"220 mail.example ESMTP\r\n") as port:
        found = check_url("IMMR_INDEX_URL", f"http://127.0.0.1:{port}")
    assert not found.ok and "does not speak HTTP" in found.found
