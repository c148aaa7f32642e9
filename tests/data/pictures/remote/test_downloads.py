"""Pictures by URL, from a server that is slow, flaky and rate-limited; and addresses that are refused."""

from __future__ import annotations

import http.server
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpcore
import pytest
from PIL import Image

from immr.data.mapping.shop_map import PictureRules
from immr.data.pictures.remote import public_network
from immr.data.pictures.remote.downloads import Downloads, Fetched
from immr.data.pictures.remote.public_network import ForbiddenAddressError, public_addresses
from immr.errors import ContractError
from tests.support.odd_pictures import encoded

LOCAL = PictureRules(allow_private=True, parallel=8, max_mb=0.01, timeout_s=5.0, tries=4)


PICTURE = encoded(Image.linear_gradient("L"), "JPEG")


class Moody(http.server.BaseHTTPRequestHandler):
    """Every picture fails twice before it is served, each time in another way."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        server.note(self.path, dict(self.headers))
        kind, _, name = self.path.strip("/").partition("/")
        asked = server.asked[self.path]
        if kind == "flaky" and asked == 1:
            self.answer(503, b"")
        elif kind == "flaky" and asked == 2:
            self.close_connection = True  # without an answer
        elif kind == "limited" and asked == 1:
            self.answer(429, b"", {"Retry-After": "7"})
        elif kind == "to":
            self.answer(302, b"", {"Location": "/" + name})
        elif kind == "away":
            self.answer(302, b"", {"Location": name})
        elif kind == "loop":
            self.answer(302, b"", {"Location": self.path})
        elif kind == "waiting" and asked == 1:
            self.answer(200, b"<html>Please wait</html>", {"Content-Type": "text/html; charset=utf-8"})
        elif kind == "missing":
            self.answer(404, b"")
        elif kind == "huge":
            self.answer(200, b"x" * 20_000)
        elif kind == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"half")
            self.close_connection = True
        elif kind == "endless":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PICTURE[: len(PICTURE) // 2] if asked == 1 or name == "broken" else PICTURE)
            self.close_connection = True
        else:
            self.answer(200, f"picture {name}".encode())

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Moody)
        self.asked = Counter[str]()
        self.headers: dict[str, dict[str, str]] = {}
        self._lock = threading.Lock()

    def note(self, path: str, headers: dict[str, str]) -> None:
        with self._lock:
            self.asked[path] += 1
            self.headers[path] = headers

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def downloads(folder: Path, rules: PictureRules = LOCAL, pauses: list[float] | None = None) -> Downloads:
    return Downloads(folder, rules, pause=(pauses if pauses is not None else []).append)


def content(fetched: Fetched) -> bytes:
    assert fetched.path is not None, fetched.failure
    return fetched.path.read_bytes()


def test_all_pictures_are_fetched_from_a_flaky_rate_limited_server(server: Server, tmp_path: Path) -> None:
    pauses: list[float] = []
    urls = [
        f"{server.url}/{kind}/{number}" for kind in ("flaky", "limited", "plain") for number in range(100)
    ]
    found = downloads(tmp_path, pauses=pauses).fetch(urls)
    assert all(content(found[url]) == f"picture {url.rpartition('/')[2]}".encode() for url in urls)
    assert server.asked["/flaky/0"] == 3 and server.asked["/limited/0"] == 2
    assert pauses.count(7.0) == 100, "the server's own wish counts"
    assert len(list(tmp_path.glob("*/*"))) == 100, "equal pictures are kept once"


def test_a_page_instead_of_a_picture_is_not_kept(server: Server, tmp_path: Path) -> None:
    url = f"{server.url}/waiting/1"
    assert content(downloads(tmp_path).fetch([url])[url]) == b"picture 1"
    assert server.asked["/waiting/1"] == 2


def test_a_picture_cut_off_is_read_again_where_the_server_names_no_length(
    server: Server, tmp_path: Path
) -> None:
    """Only the end of the connection ends the picture, so half of one was kept for good."""
    once, always = f"{server.url}/endless/1", f"{server.url}/endless/broken"
    found = downloads(tmp_path).fetch([once, always])
    assert content(found[once]) == PICTURE and server.asked["/endless/1"] == 2
    assert re.search(r"without Content-Length, and the image is broken.* in 4 tries", found[always].failure)


def test_an_outage_does_not_cost_several_tries_for_each_picture(tmp_path: Path) -> None:
    """The pauses are not real, so a host is given up at once only if the clock says so: here it waits for a probe."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    clock = [0.0]

    def pause(seconds: float) -> None:
        clock[0] += seconds

    there = Downloads(tmp_path, LOCAL, pause=pause, clock=lambda: clock[0])
    urls = [f"http://127.0.0.1:{port}/{number}" for number in range(3000)]
    found = there.fetch(urls)
    assert clock[0] < 900, "one by one they would take 3,000 times 3.5 seconds"
    failures = Counter(re.sub(r":\d+", "", each.failure) for each in found.values())
    assert failures["127.0.0.1 has not answered for minutes"] > 2500


@pytest.mark.parametrize(
    ("path", "reason", "asked"),
    [
        ("missing/1", "answered 404", 1),
        ("huge/1", "more than 0.01 MB", 1),
        ("loop/1", "redirected more than 5 times", 6),
        ("cut/1", "in 4 tries", 4),
        ("away/http://[broken/1", "not a valid URL", 1),
        ("away/file:///etc/passwd", "redirected to file:///etc/passwd", 1),
    ],
)
def test_a_failed_download_has_its_reason(
    server: Server, tmp_path: Path, path: str, reason: str, asked: int
) -> None:
    url = f"{server.url}/{path}"
    found = downloads(tmp_path).fetch([url])[url]
    assert found.path is None and reason in found.failure
    assert server.asked[f"/{path}"] == asked


def test_a_redirect_is_followed(server: Server, tmp_path: Path) -> None:
    url = f"{server.url}/to/plain/1"
    assert content(downloads(tmp_path).fetch([url])[url]) == b"picture 1"


def test_an_invalid_url_fails_alone(server: Server, tmp_path: Path) -> None:
    wrong, right = "http://[broken/1.jpg", f"{server.url}/plain/1"
    found = downloads(tmp_path).fetch([wrong, right])
    assert "not a valid URL" in found[wrong].failure and content(found[right]) == b"picture 1"


def test_spaces_and_non_ascii_letters_are_encoded_as_in_browsers(server: Server, tmp_path: Path) -> None:
    url = f"{server.url}/plain/größe 1%20.jpg?b=ü#top"
    assert content(downloads(tmp_path).fetch([url])[url])
    assert list(server.asked) == ["/plain/gr%C3%B6%C3%9Fe%201%20.jpg?b=%C3%BC"]


def test_servers_that_choose_a_format_are_asked_for_one_that_we_read(server: Server, tmp_path: Path) -> None:
    """Also behind a redirect to another host; `image/*` is an invitation to send AVIF."""
    elsewhere = f"http://localhost:{server.server_port}/plain/8"
    url = f"{server.url}/away/{elsewhere}"
    assert content(downloads(tmp_path).fetch([url])[url]) == b"picture 8"
    for path in (f"/away/{elsewhere}", "/plain/8"):
        assert server.headers[path]["Accept"].startswith("image/jpeg, image/png, image/webp, ")
        assert server.headers[path]["User-Agent"] == "immr"


def test_a_missing_file_of_a_header_is_named(server: Server, tmp_path: Path) -> None:
    rules = PictureRules(allow_private=True, header_files={"Authorization": tmp_path / "none"})
    with pytest.raises(ContractError, match=r"header Authorization cannot be read from .*none"):
        downloads(tmp_path, rules).fetch([f"{server.url}/plain/1"])


def test_secrets_are_sent_to_their_host_only(server: Server, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("Bearer secret\n")
    rules = PictureRules(
        allow_private=True, header_files={"Authorization": tmp_path / "token"}, headers={"X-Shop": "1"}
    )
    elsewhere = f"http://localhost:{server.server_port}/plain/9"
    url = f"{server.url}/away/{elsewhere}"
    assert content(downloads(tmp_path / "p", rules).fetch([url])[url]) == b"picture 9"
    assert server.headers[f"/away/{elsewhere}"]["Authorization"] == "Bearer secret"
    assert "Authorization" not in server.headers["/plain/9"] and "X-Shop" not in server.headers["/plain/9"]


def test_after_a_kill_only_missing_pictures_are_requested(server: Server, tmp_path: Path) -> None:
    first = [f"{server.url}/plain/{number}" for number in range(300)]
    downloads(tmp_path).fetch(first)
    again = downloads(tmp_path).fetch([*first, f"{server.url}/plain/new", f"{server.url}/missing/1"])
    assert set(server.asked.values()) == {1} and len(again) == 302
    downloads(tmp_path).fetch([f"{server.url}/missing/1"])
    assert server.asked["/missing/1"] == 2, "failures are tried again"


def test_private_addresses_get_no_request(server: Server, tmp_path: Path) -> None:
    rules = PictureRules(tries=1)
    hosts = ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0.0.0.0")
    urls = [f"http://{host}:{server.server_port}/plain/1" for host in hosts]
    found = downloads(tmp_path, rules).fetch(urls)
    assert all("not a public address" in found[url].failure for url in urls), found
    assert not server.asked


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "fe80::1",
        "fd00::1",
        "fec0::1",
        "224.0.0.1",
        "::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "2002:7f00:1::",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    with pytest.raises(ForbiddenAddressError, match="not a public address"):
        public_addresses(address, 80)


def test_a_public_address_behind_nat64_is_public() -> None:
    assert public_addresses("64:ff9b::8.8.8.8", 80)


def test_a_host_with_one_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(*_: object, **__: object) -> list[object]:
        return [(0, 0, 0, "", (address, 80)) for address in ("93.184.216.34", "10.0.0.1")]

    monkeypatch.setattr(public_network.socket, "getaddrinfo", both)
    with pytest.raises(ForbiddenAddressError):
        public_addresses("shop.example", 80)


def test_an_unknown_host_is_a_failed_connection() -> None:
    with pytest.raises(httpcore.ConnectError):
        public_addresses("no.such.host.invalid", 80)
