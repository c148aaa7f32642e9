"""What phones, shops and strangers send: each gets its right answer, and the service is well afterwards."""

from __future__ import annotations

import io
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from immr.experiment.definition import CHAMPION, Experiment, Variant, save
from immr.settings import Settings
from tests import tiny_version
from tests.serving.test_bento_app import assert_problem, search
from tests.upstream_process import await_port, free_port

RED = tiny_version.photo("red")
COLOUR = tiny_version.COLOURS["red"]


@pytest.fixture(scope="module")
def client(bento_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=bento_url, timeout=10) as client:
        yield client


@pytest.fixture(autouse=True)
def well_afterwards(client: httpx.Client) -> Iterator[None]:
    yield
    assert search(client).json()["hits"][0]["item_id"] == "red"


def file(image: Image.Image, image_format: str, **options: object) -> bytes:
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
    """Red and opaque, but for one corner."""
    image = plain("P")
    image.putpixel((0, 0), 255)
    return file(image, "PNG", transparency=255)


def rotated() -> bytes:
    """A quarter turn that EXIF tells of."""
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
    """A PNG that claims a size and has no pixels to go with it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "content",
    [
        png(0, 0),
        png(2**31 - 1, 2**31 - 1),
        png(100_000, 100_000),
        png(10, 10),
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        b"%PDF-1.7",
        b"http://127.0.0.1/photo.jpg",
        file(plain(), "TIFF"),
        file(plain(), "ICO"),
        bytes(1000),
    ],
    ids=["0x0", "bomb", "large", "hollow", "svg", "pdf", "url", "tiff", "ico", "zeros"],
)
def test_what_is_no_photo_of_ours_is_a_422(client: httpx.Client, content: bytes) -> None:
    assert_problem(search(client, content), 422)


def test_photos_with_flipped_bits_never_break_it(client: httpx.Client) -> None:
    random = np.random.default_rng(0)
    for original in (RED, file(plain(), "PNG"), animation("GIF"), animation("WEBP")):
        for _ in range(15):
            broken = np.frombuffer(original, np.uint8).copy()
            broken[random.integers(len(broken), size=5)] ^= random.integers(1, 256, size=5, dtype=np.uint8)
            assert search(client, broken.tobytes()).status_code in (200, 422)


def test_a_hundred_megabytes_are_refused_unread(bento_url: str) -> None:
    head = b"POST /v1/search HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=b\r\n"
    with socket.create_connection(("127.0.0.1", int(bento_url.rsplit(":", 1)[1])), timeout=10) as sender:
        sender.sendall(head + b"content-length: %d\r\n\r\n--b" % (100 * 1024**2))
        answer = sender.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 413") and b"application/problem+json" in answer


def test_a_flood_of_headers_is_no_500(bento_url: str) -> None:
    with socket.create_connection(("127.0.0.1", int(bento_url.rsplit(":", 1)[1])), timeout=10) as flood:
        flood.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\n")
        try:
            for number in range(2000):
                flood.sendall(b"x-%d: %s\r\n" % (number, b"a" * 500))
            flood.sendall(b"\r\n")
            answer = flood.recv(100)
        except ConnectionError:
            return
    assert not answer.startswith(b"HTTP/1.1 5")


def test_sigterm_finishes_what_was_taken(bento_url: str, tmp_path: Path) -> None:
    """Under load, every request that a gateway has taken is answered; new connections are refused."""
    settings = Settings(home=tmp_path)
    save(Experiment("test", "salt", (Variant(CHAMPION, bento_url, "immr-1", 1.0),)), settings.experiment_file)
    port = free_port()
    command = [sys.executable, "-m", "serving.gateway", f"--port={port}"]
    answers: list[str] = []

    def shopper() -> None:
        while True:
            try:
                # a connection for each, as one behind a load balancer that stops sending would see it
                answer = httpx.post(f"http://127.0.0.1:{port}/v1/search", files={"image": RED}, timeout=10)
            except httpx.ConnectError:
                return
            except httpx.HTTPError as error:
                answers.append(type(error).__name__)
                return
            answers.append(str(answer.status_code))

    with subprocess.Popen(command, env={**os.environ, **settings.environment()}) as gateway:
        await_port(gateway, port)
        shoppers = [threading.Thread(target=shopper) for _ in range(4)]
        for thread in shoppers:
            thread.start()
        while len(answers) < 20:
            time.sleep(0.05)
        gateway.send_signal(signal.SIGTERM)
        for thread in shoppers:
            thread.join(timeout=20)
        assert gateway.wait(timeout=20) in (0, -signal.SIGTERM)
    # a connection that waits in the kernel's queue as the listener closes was never taken
    assert answers.count("200") >= len(answers) - 4
    assert set(answers) <= {"200", "ReadError"}
