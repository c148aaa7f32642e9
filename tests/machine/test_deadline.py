"""A server that sends a byte at a time does not hold a request beyond its deadline."""

from __future__ import annotations

import http.server
import threading

import pytest

from immr.data.mapping.shop_map import PictureRules
from immr.data.pictures.remote.requests import PictureRequests, RequestFailedError
from tests.support.stand_in_server import served


@pytest.mark.parametrize("trickling", ["headers", "body"])
def test_a_trickling_server_times_out(trickling: str) -> None:
    done = threading.Event()

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            if trickling == "body":
                self.end_headers()
            else:
                self.flush_headers()
            while not done.wait(0.02):
                try:
                    self.wfile.write(b"x")
                except OSError:
                    return

        def log_message(self, *_: object) -> None:
            pass

    with served(Slow) as url:
        rules = PictureRules(allow_private=True, timeout_s=0.3)
        try:
            with PictureRequests(rules) as requests, pytest.raises(RequestFailedError) as failed:
                requests.read(f"{url}/")
            assert "not complete after 0.3 s" in str(failed.value)
            assert failed.value.retried
        finally:
            done.set()
