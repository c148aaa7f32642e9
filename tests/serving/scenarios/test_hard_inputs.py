"""Unusual and hostile requests to a real Bento and a real gateway. After each, a normal search still works."""

from __future__ import annotations

import io
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from immr.events import tokens
from immr.wiring import connect
from tests.support import tiny_version
from tests.support.real_services import RECEIVE_TIMEOUT_S, Services, answer_on, open_connection
from tests.support.shopper import assert_problem, click, search

RED = tiny_version.photo("red")
COLOUR = tiny_version.COLOURS["red"]
FORM = b"content-type: multipart/form-data; boundary=b\r\n"
JSON = b"content-type: application/json\r\n"


@pytest.fixture(scope="module", params=["bento", "gateway"])
def url(request: pytest.FixtureRequest, services: Services) -> str:
    found: str = getattr(services, request.param)
    return found


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture(autouse=True)
def still_works(client: httpx.Client) -> Iterator[None]:
    yield
    answer = search(client)
    assert answer.status_code == 200 and answer.json()["hits"][0]["item_id"] == "red"


def send(url: str, request: bytes) -> httpx.Response:
    with open_connection(url) as connection:
        connection.sendall(request)
        return answer_on(connection)


def post(path: str, headers: bytes, body: bytes) -> bytes:
    return b"POST %s HTTP/1.1\r\nhost: x\r\n%scontent-length: %d\r\n\r\n%s" % (
        path.encode(), headers, len(body), body,
    )  # fmt: skip


def form(*fields: tuple[str, bytes], image: bytes | None = RED) -> bytes:
    head = b'--b\r\ncontent-disposition: form-data; name="%s"\r\n\r\n'
    parts = [head % name.encode() + value + b"\r\n" for name, value in fields]
    if image is not None:
        head = b'--b\r\ncontent-disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
        parts.append(head + image + b"\r\n")
    return b"".join(parts) + b"--b--\r\n"


def file(image: Image.Image, image_format: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, image_format, **options)
    return content.getvalue()


def plain(mode: str = "RGB") -> Image.Image:
    return Image.new("RGB", (48, 40), COLOUR).convert(mode)


def animation(image_format: str) -> bytes:
    """Red first, then blue."""
    others = [Image.new("RGB", (48, 40), tiny_version.COLOURS["blue"])]
    return file(plain(), image_format, save_all=True, append_images=others, duration=50)


def transparent_palette() -> bytes:
    """Red and opaque except for one corner."""
    image = plain("P")
    image.putpixel((0, 0), 255)
    return file(image, "PNG", transparency=255)


def rotated() -> bytes:
    """Rotated by a quarter turn, according to EXIF."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return file(plain(), "JPEG", exif=exif)


@pytest.mark.parametrize(
    "content",
    [
        file(plain("CMYK"), "JPEG"),
        animation("GIF"),
        animation("WEBP"),
        transparent_palette(),
        rotated(),
        file(plain("RGBA"), "PNG"),
        file(plain(), "BMP"),
        file(plain(), "JPEG", progressive=True),
        file(Image.new("RGB", (1, 1), COLOUR), "PNG"),
        file(Image.new("RGB", (3000, 1), COLOUR), "PNG"),
    ],
    ids=["cmyk", "gif", "webp", "palette", "exif", "rgba", "bmp", "progressive", "1x1", "thin"],
)
def test_unusual_photos_are_read(client: httpx.Client, content: bytes) -> None:
    assert search(client, content).json()["hits"][0]["item_id"] == "red"


def test_a_16_bit_png_is_read(client: httpx.Client) -> None:
    deep = Image.fromarray(np.full((40, 48), 30_000, dtype=np.uint16))
    assert search(client, file(deep, "PNG")).status_code == 200


def png(width: int, height: int) -> bytes:
    """A PNG with a size but no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "Choose a photo"),
        (RED[:-40], "export it again"),
        (RED[:300], "export it again"),
        (png(0, 0), "export it again"),
        (png(2**31 - 1, 2**31 - 1), "send a smaller one"),
        (png(100_000, 100_000), "send a smaller one"),
        (file(Image.new("1", (9000, 8000)), "PNG"), "send a smaller one"),
        (png(10, 10), "export it again"),
        (b"<html><body>not a photo</body></html>", "send a JPEG"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', "send a JPEG"),
        (b"%PDF-1.7", "send a JPEG"),
        (b"http://127.0.0.1/photo.jpg", "send a JPEG"),
        (file(plain(), "TIFF"), "send a JPEG"),
        (file(plain(), "ICO"), "send a JPEG"),
        (bytes(1000), "send a JPEG"),
    ],
    ids=[
        "empty",
        "cut",
        "cut-early",
        "0x0",
        "bomb",
        "large",
        "inflating",
        "hollow",
        "html",
        "svg",
        "pdf",
        "url",
        "tiff",
        "ico",
        "zeros",
    ],
)
def test_an_unreadable_photo_is_a_422(client: httpx.Client, content: bytes, words: str) -> None:
    assert_problem(search(client, content), 422, words)


def test_photos_with_flipped_bits_are_read_or_refused(client: httpx.Client) -> None:
    random = np.random.default_rng(0)
    for original in (RED, file(plain(), "PNG"), animation("GIF"), animation("WEBP")):
        for _ in range(15):
            broken = np.frombuffer(original, np.uint8).copy()
            broken[random.integers(len(broken), size=5)] ^= random.integers(1, 256, size=5, dtype=np.uint8)
            assert search(client, broken.tobytes()).status_code in (200, 422)


@pytest.mark.parametrize("k", ["0", "-1", "101", "1000000000", "1e9", "abc", "1.5", "nan", "9" * 5000])
def test_k_has_bounds(client: httpx.Client, k: str) -> None:
    assert assert_problem(search(client, k=k), 422, "k: ")["errors"][0]["field"] == "k"


@pytest.mark.parametrize("k", [0, -1, 10**9, 1e9, "abc", 1.5, [], {}])
def test_k_has_bounds_in_json_too(client: httpx.Client, k: object) -> None:
    assert_problem(client.post("/v1/search", json={"item_id": "red", "k": k}), 422, "k: ")


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (form(image=None), 422, "Field required: send one of image"),
        (form(("k", b"3"), image=None), 422, "Field required: send one of image"),
        (form(("k", b"3"), ("k", b"4")), 422, "'k' occurs more than once"),
        (form(("user_id", b"ann"), ("user_id", b"ann")), 422, "'user_id' occurs more than once"),
        (form(*[("image", RED)] * 5), 422, "The search has 6 photos. Send at most 5"),
        (form(("item_id", b"red")), 422, "both item_id and image: send one of"),
        (form(("user_id", b"x" * 201)), 422, "user_id: "),
        (form(("category", b"x" * 2_000_000)), 422, "category: "),
        (form(("price_max", b"-1")), 422, "price_max: "),
        (form(("price_max", b"inf")), 422, "price_max: "),
        (form(*[(f"f{number}", b"") for number in range(40)]), 400, "more than 32 parts"),
        (form(("limit", b"3")), 422, "limit: Unknown field: send only image, item_id"),
        (form(image=b"photo.jpg"), 422, "text, not a picture"),
        (form()[:-8], 400, "cut off"),
        (b"", 400, "multipart/form-data body is malformed"),
        (b"nonsense", 400, "multipart/form-data body is malformed"),
        *[
            (form((name, b"\xff\xfe"), image=None), 400, f"'{name}' is not valid UTF-8")
            for name in ("user_id", "category", "item_id", "page", "k", "price_min", "price_max", "else")
        ],
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_a_wrong_form_is_a_problem(url: str, body: bytes, status: int, words: str) -> None:
    assert_problem(send(url, post("/v1/search", FORM, body)), status, words)


@pytest.mark.parametrize(
    ("content_type", "status", "words"),
    [
        (b"", 415, "Send multipart/form-data with a file field"),
        (b"\xff\xfe", 415, "Send multipart/form-data with a file field"),
        (b"image/jpeg", 422, "this is not a picture in a supported format"),
        (b"application/x-www-form-urlencoded", 415, "Send multipart/form-data with a file field"),
        (b"multipart/form-data", 400, "names no boundary"),
        (b"multipart/form-data; boundary=\xff", 400, "names no boundary"),
        (b"application/json", 400, "Send UTF-8 encoded JSON"),
    ],
)
def test_a_wrong_content_type_is_a_problem(url: str, content_type: bytes, status: int, words: str) -> None:
    headers = b"content-type: %s\r\n" % content_type if content_type else b""
    assert_problem(send(url, post("/v1/search", headers, form())), status, words)


@pytest.mark.parametrize(
    "name",
    [
        "accept",
        "cookie",
        "authorization",
        "content-encoding",
        "range",
        "traceparent",
        "user-agent",
        "x-forwarded-for",
    ],
)
def test_headers_that_are_not_utf8_do_no_harm(url: str, name: str) -> None:
    header = f"{name}: ".encode() + b"immr_user=\xff\xfe\r\n"
    assert send(url, post("/v1/search", FORM + header, form())).json()["hits"][0]["item_id"] == "red"


def test_an_empty_user_counts_as_absent(client: httpx.Client) -> None:
    for answer in (
        search(client, user_id=""),
        client.post("/v1/search", json={"item_id": "red", "user_id": ""}),
    ):
        assert answer.status_code == 200


@pytest.mark.parametrize(
    "text", ["ü" * 200, "a\x00b", "'; DROP TABLE searches; --", "\\ud800", "..%2f", "   "]
)
def test_any_user_and_category_is_accepted_as_text(client: httpx.Client, text: str) -> None:
    assert search(client, user_id=text, category=text).status_code == 200


def test_an_item_with_slashes_is_found_and_has_its_picture(client: httpx.Client) -> None:
    answer = client.post("/v1/search", json={"item_id": "with/slash ü"})
    assert answer.json()["hits"][0]["item_id"] == "red"
    for path in ("with%2Fslash%20%C3%BC", "with/slash ü"):
        assert client.get(f"/v1/items/{path}/image").content == tiny_version.photo("with/slash ü", "PNG")


@pytest.mark.parametrize("item_id", ["/", "//", "a/b/c", "../../etc/passwd", "%2F", "a\x00b", ".", "\u202e"])
def test_strange_items_are_404(client: httpx.Client, item_id: str) -> None:
    assert_problem(client.post("/v1/search", json={"item_id": item_id}), 404, "There is no item")


@pytest.mark.parametrize(
    "path", ["/", "/etc/passwd", "..%2F..%2Fetc%2Fpasswd", "%00", "%FF", "%0a", "a" * 3000]
)
def test_only_items_have_pictures(client: httpx.Client, path: str) -> None:
    assert client.get(f"/v1/items/{path}/image").status_code == 404


@pytest.mark.parametrize("path", ["/v1/search", "/v1/events"])
def test_a_hundred_megabytes_are_a_413(client: httpx.Client, url: str, path: str) -> None:
    kind = {"content-type": "multipart/form-data; boundary=b" if path == "/v1/search" else "application/json"}
    piece = bytes(2**20)
    assert_problem(
        client.post(path, content=(piece for _ in range(100)), headers=kind), 413, "Send a smaller"
    )
    declared = post(path, FORM, b"").replace(b"content-length: 0", b"content-length: %d" % (100 * 2**20))
    assert_problem(send(url, declared), 413, "10 MB")  # at once: nothing of it was sent


@pytest.mark.parametrize("path", ["/v1/search", "/v1/events"])
def test_a_body_that_does_not_arrive_is_a_408(url: str, path: str) -> None:
    headers = FORM if path == "/v1/search" else JSON
    request = post(path, headers, bytes(1000))[:-900]
    with open_connection(url) as connection:
        connection.sendall(request)
        assert_problem(answer_on(connection), 408, f"within {RECEIVE_TIMEOUT_S} s. Send it faster")


def test_huge_queries_change_nothing(url: str) -> None:
    assert send(url, post("/v1/search?" + "a=b&" * 5000, FORM, form())).json()["hits"]


@pytest.mark.parametrize(
    "request_line", [b"GET /v1/items/\xff/image", b"POST /v1/search?\xff", b"BREW /pot", b"\x16\x03\x01"]
)
def test_what_is_not_http_is_a_400(url: str, services: Services, request_line: bytes) -> None:
    answer = send(url, request_line + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
    assert answer.status_code == 400
    if url == services.gateway:
        assert_problem(answer, 400, "not a valid HTTP request")


@pytest.mark.parametrize("offer", [b"h2c", b"TLS/1.2", b"websocket"])
def test_an_offer_to_use_another_protocol_is_ignored(url: str, offer: bytes) -> None:
    """Java's HTTP client offers HTTP/2 with each photo, and its bodies were taken for empty."""
    headers = (
        FORM + b"connection: upgrade, http2-settings\r\nhttp2-settings: AA\r\nupgrade: " + offer + b"\r\n"
    )
    request = post("/v1/search", headers, form())
    with open_connection(url) as connection:
        for _ in range(2):
            connection.sendall(request[:-100])
            time.sleep(0.05)
            connection.sendall(request[-100:])
            assert answer_on(connection).json()["hits"][0]["item_id"] == "red"


@pytest.mark.parametrize("chunk", [b"-5\r\nabc", b"f" * 17 + b"\r\nabc", b"3\nabc"])
def test_a_malformed_chunk_is_a_400(url: str, chunk: bytes) -> None:
    """The connection was closed without an answer."""
    head = b"POST /v1/search HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n" + FORM + b"\r\n"
    assert_problem(send(url, head + chunk + b"\r\n0\r\n\r\n"), 400, "not a valid HTTP request")


@pytest.mark.parametrize("length", [b"abc", b"-5", b"5\r\ncontent-length: 6"])
def test_an_invalid_content_length_is_a_400(url: str, length: bytes) -> None:
    head = b"POST /v1/search HTTP/1.1\r\nhost: x\r\ncontent-length: " + length
    assert send(url, head + b"\r\n\r\nabcdef").status_code == 400


@pytest.mark.parametrize(
    "flood",
    [b"".join(b"x-%d: %s\r\n" % (number, b"a" * 500) for number in range(4000)), b"x: " + b"a" * 2_000_000],
    ids=["many", "long"],
)
def test_a_flood_of_headers_is_a_431(url: str, flood: bytes) -> None:
    with open_connection(url) as connection:
        try:
            connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\n" + flood)
            answer = answer_on(connection)
        except ConnectionError:  # closed while we wrote, and the answer was lost with it
            return
    assert_problem(answer, 431, "Send fewer headers")


def head_of(size: int) -> bytes:
    """A complete request of this size."""
    start, end = b"GET /health/live HTTP/1.1\r\nhost: x\r\nx: ", b"\r\n\r\n"
    return start + b"a" * (size - len(start) - len(end)) + end


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (head_of(60 * 1024), 200),
        (head_of(66 * 1024), 431),
        (head_of(200 * 1024), 431),
        (b"GET /health/live?" + b"a" * 150_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"x: 1\r\n" * 12_000 + b"\r\n", 431),
    ],
    ids=["short", "long", "longer", "url", "many"],
)
def test_a_head_that_arrives_at_once_has_the_same_bound(url: str, request_: bytes, status: int) -> None:
    for read_at_once in (True, False):
        with open_connection(url) as connection:
            pieces = [request_] if read_at_once else [request_[:1000], request_[1000:]]
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(0.05)  # so that the pieces arrive as two
            assert answer_on(connection).status_code == status


@pytest.mark.parametrize(
    "trailers",
    [b"x: 1\r\n" * 200_000, b"x: " + b"a" * 2_000_000, b"1;" + b"a" * 2_000_000],
    ids=["many", "long", "extension"],
)
def test_trailers_of_a_chunked_body_have_the_same_bound(url: str, trailers: bytes) -> None:
    head = b"POST /v1/events HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n"
    with open_connection(url) as connection:
        connection.sendall(head if trailers.startswith(b"1") else head + b"0\r\n")
        with pytest.raises(ConnectionError):  # while we wrote
            for _ in range(20):
                connection.sendall(trailers[:200_000])
                time.sleep(0.02)  # so that the server can close in between


def test_a_head_after_a_large_body_is_counted_on_its_own(url: str) -> None:
    body = bytes(120_000)
    first = post("/v1/events", b"content-type: application/xml\r\n", body)
    with open_connection(url) as connection:
        connection.sendall(first + head_of(1000)[:-10])
        assert answer_on(connection).status_code == 415
        connection.sendall(head_of(1000)[-10:])
        assert answer_on(connection).status_code == 200


def test_a_head_that_does_not_arrive_is_a_408(url: str) -> None:
    with open_connection(url) as idle, open_connection(url) as slow:
        slow.sendall(b"GET /health/live HTTP/1.1\r\nx: ")
        assert_problem(answer_on(slow), 408, f"within {RECEIVE_TIMEOUT_S} s. Send it faster")
        assert idle.recv(1) == b"", "a connection that sent nothing is closed without an answer"


def test_hundreds_of_slow_senders_block_nobody(url: str, client: httpx.Client) -> None:
    """As many as the limit of open files allows."""
    slow = [open_connection(url) for _ in range(300)]
    try:
        for number, sender in enumerate(slow):
            sender.sendall(post("/v1/search", FORM, bytes(1000))[: 40 + number])
        assert search(client).status_code == 200
    finally:
        for sender in slow:
            sender.close()


def test_invalid_forged_expired_and_replayed_events(client: httpx.Client, services: Services) -> None:
    key, now = connect(services.settings).token_keys[0], datetime.now(UTC)
    hit = search(client, user_id="ann").json()["hits"][0]["click_token"]
    query = ("q", "champion", "immr-1")
    for token, words in (
        ("x", "not a click token"),
        (hit[:-4] + "AAAA", "not signed with a key of this service"),
        (tokens.Signer(b"x" * 32, *query, now).sign("red", 1), "not signed with a key of this service"),
        (tokens.Signer(key, *query, now - timedelta(days=2)).sign("red", 1), "search again for a new one"),
    ):
        problem = assert_problem(client.post("/v1/events", json={"events": [click(token)]}), 422, words)
        assert words in problem["rejected"][0]["reason"]
    event = {"events": [click(hit)]}
    answers = [client.post("/v1/events", json=event).json() for _ in range(2)]
    assert [(answer["accepted"], answer["duplicates"]) for answer in answers] == [(1, 0), (0, 1)]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b'{"events": [{"type": "click", "click_token": "\xff\xfe", "ts": "x"}]}', 400),
        (b'{"events": [{"type": "click\xff", "click_token": "x", "ts": "x"}]}', 400),
        (b'{"\xff": 1}', 400),
        (b"{", 400),
        (b"[" * 100_000, 400),
        (b"", 400),
        (b"{}", 422),
        (b'{"events": []}', 422),
        (b'{"events": [{"type": "click", "ts": "2024-05-01T00:00:00Z"}]}', 422),
        (b'{"events": [{"type": "click", "click_token": "", "ts": "2024-05-01T00:00:00Z"}]}', 422),
    ],
)
def test_wrong_events_are_a_problem(url: str, content: bytes, status: int) -> None:
    assert_problem(send(url, post("/v1/events", JSON, content)), status)


def test_many_hard_inputs_at_once(client: httpx.Client) -> None:
    """A broken photo does not affect other searches in progress."""
    answers: list[tuple[bytes, httpx.Response]] = []
    wrong = [RED[:300], b"", b"<html>", png(100_000, 100_000)]

    def shopper(photo: bytes) -> None:
        for _ in range(5):
            answers.append((photo, search(client, photo)))

    threads = [threading.Thread(target=shopper, args=(photo,)) for photo in (RED, RED, RED, *wrong)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(answer.status_code == (200 if photo == RED else 422) for photo, answer in answers)
    assert len(answers) == 35
