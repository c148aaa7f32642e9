"""Pictures are read beside the event loop, and a slow one ends in time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from immr.data.mapping.shop_map import PictureRules
from immr.data.pictures.remote.async_requests import AsyncPictureRequests
from immr.data.pictures.remote.requests import RequestFailedError
from tests.support.stand_in_server import served

LOCAL = PictureRules(allow_private=True, parallel=2, timeout_s=60.0)


class Picture(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"picture")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with served(Picture) as address:
        yield f"{address}/a"


def read(url: str, rules: PictureRules) -> bytes:
    async def content() -> bytes:
        requests = AsyncPictureRequests(rules)
        try:
            return await requests.read(url)
        finally:
            requests.close()

    return asyncio.run(content())


def test_a_picture_is_read_where_the_rules_allow_it(url: str) -> None:
    assert read(url, LOCAL) == b"picture"
    with pytest.raises(RequestFailedError, match="not a public address"):
        read(url, PictureRules())


def test_a_server_that_never_answers_costs_the_timeout_only() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/a"
        with pytest.raises(RequestFailedError, match=r"not complete after 0\.2 s"):
            read(address, PictureRules(allow_private=True, timeout_s=0.2))
