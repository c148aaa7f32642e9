"""Photos that a search names by URL: from a server beside the test, and from where they must not be read."""

from __future__ import annotations

import asyncio
import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from immr.settings import Settings
from immr.wiring import connect
from serving.bento.answering import VersionService
from serving.bento.photo_urls import RULES, PhotoUrls
from serving.wire.problems import ProblemError
from tests.support import http_client, tiny_version
from tests.support.in_process import served_service, wait_ready
from tests.support.shopper import assert_problem

CONTENTS = {
    "/red": tiny_version.photo("red"),
    "/text": b"hello, this is not a picture",
    "/huge": b"\0" * 20_000,
}


@dataclass
class Shop:
    """A web server with pictures, and the paths that were requested."""

    url: str
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def shop() -> Iterator[Shop]:
    class Pictures(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            content = CONTENTS.get(self.path)
            self.send_response(200 if content else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as server:
        found = Shop(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@contextmanager
def serving(home: Path, photo_urls: PhotoUrls | None) -> Iterator[str]:
    """The address of `/v1/search` of a version."""
    settings = Settings(home=home)
    folder = tiny_version.write_packaged(home / "immr-1")
    tiny_version.build_index(settings, folder, tiny_version.items(home / "pictures"))
    with served_service(VersionService(folder, connect(settings), photo_urls=photo_urls)) as url:
        wait_ready(url)
        yield f"{url}/v1/search"


def test_a_photo_by_its_url(tmp_path: Path, shop: Shop) -> None:
    # the test's server is at a private address
    allowed = PhotoUrls(replace(RULES, allow_private=True, max_mb=0.01))
    with serving(tmp_path, allowed) as search:
        for fields in ({}, {"box": "0,0,0.5,0.5"}, {"text": "red thing"}):
            answer = http_client.post(search, json={"image_url": f"{shop.url}/red", "k": 1, **fields})
            assert answer.status_code == 200, answer.text
            assert [hit["item_id"] for hit in answer.json()["hits"]] == ["red"]
        in_form = http_client.post(search, files={"image_url": (None, f"{shop.url}/red")})
        assert in_form.json()["hits"][0]["item_id"] == "red"
        for path in ("missing", "huge"):
            answer = http_client.post(search, json={"image_url": f"{shop.url}/{path}"})
            assert_problem(answer, 422, "image_url: The photo cannot be fetched")
        answer = http_client.post(search, json={"image_url": f"{shop.url}/text"})
        assert_problem(answer, 422, "text, not a picture")
        both = http_client.post(search, json={"image_url": f"{shop.url}/red", "item_id": "red"})
        assert_problem(both, 422, "both image_url and item_id")


def test_a_private_address_is_neither_read_nor_described(tmp_path: Path, shop: Shop) -> None:
    with serving(tmp_path, PhotoUrls()) as search:
        for url in (f"{shop.url}/red", shop.url.replace("127.0.0.1", "localhost")):
            problem = assert_problem(http_client.post(search, json={"image_url": url}), 422, "must be public")
            assert "127.0.0.1" not in problem["detail"] and "localhost" not in problem["detail"]
    assert shop.asked == []


def test_a_search_does_not_wait_for_a_slow_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def look_up(*_: object, **__: object) -> None:
        answered.wait()
        raise OSError("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    photo_urls = PhotoUrls(replace(RULES, timeout_s=0.05))
    try:
        with pytest.raises(ProblemError, match=r"answer within 0\.05 s"):
            asyncio.run(photo_urls.fetch("http://shop.example/red.jpg"))
    finally:
        answered.set()
        photo_urls.close()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "s3://bucket/photo.jpg", "photo.jpg", "http://a b"])
def test_only_web_addresses_are_taken(bento_url: str, url: str) -> None:
    assert_problem(http_client.post(f"{bento_url}/v1/search", json={"image_url": url}), 422, "image_url")


def test_it_is_off_by_default(bento_url: str, shop: Shop) -> None:
    answer = http_client.post(f"{bento_url}/v1/search", json={"image_url": f"{shop.url}/red"})
    assert_problem(answer, 422, "does not fetch photos")
    assert shop.asked == []
