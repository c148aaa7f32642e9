import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from immr.deploy.readiness import not_ready_because


class Version(BaseHTTPRequestHandler):
    status, body = 200, json.dumps({"model_version": "immr-1"}).encode()

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Version) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_the_version_that_is_ready(url: str) -> None:
    assert not_ready_because(url) is None
    assert not_ready_because(url, "immr-1") is None
    assert not_ready_because(url, "immr-2") == "immr-1 serves there"


def test_a_version_of_another_home_is_not_ours(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not_ready_because(url, "immr-1", home_id="ours") is None  # it names no home
    monkeypatch.setattr(Version, "body", b'{"model_version": "immr-1", "home": "theirs"}')
    assert not_ready_because(url, "immr-1", home_id="theirs") is None
    assert not_ready_because(url, "immr-1", home_id="ours") == "immr-1 of another IMMR_HOME serves there"


def test_an_answer_without_a_version(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Version, "body", b"{}")
    assert not_ready_because(url) is None
    assert not_ready_because(url, "immr-1") == "an unnamed version serves there"


def test_a_version_that_is_not_ready_gives_its_reason(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Version, "status", 503)
    monkeypatch.setattr(Version, "body", b'{"detail": "the index is away"}')
    assert not_ready_because(url, "immr-1") == "the index is away"
    monkeypatch.setattr(Version, "body", b"<html>")
    assert not_ready_because(url) == "status 503"


def test_an_address_where_nothing_listens(url: str) -> None:
    assert (not_ready_because("http://127.0.0.1:9") or "").startswith("no answer: ")


def test_a_server_that_does_not_speak_http_is_not_a_version() -> None:
    """`immr status` and `immr serve` once ended with `BadStatusLine`."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        found = pool.submit(not_ready_because, f"http://127.0.0.1:{server.getsockname()[1]}")
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
        assert (found.result(60) or "").startswith("no answer: ")
