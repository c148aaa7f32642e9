"""More load than can be borne, slow senders, and variants that fail: on real processes."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from immr.experiment.definition import CHAMPION, Experiment, Variant, save
from immr.settings import Settings
from tests.serving.bento.test_app import assert_problem
from tests.serving.gateway.test_app import experiment, recorded_search, user_of
from tests.support import tiny_version
from tests.support.upstream_process import free_port, process_on
from tests.support.version_process import version_process

RED = tiny_version.photo("red")
CLIENTS, EACH = 24, 10


@contextmanager
def gateway_process(settings: Settings, *flags: str) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "serving.gateway", f"--port={port}", *flags]
    with process_on(port, *command, env={**os.environ, **settings.environment()}) as url:
        yield url


def search(url: str, user: str = "ann") -> httpx.Response:
    answer = httpx.post(f"{url}/v1/search", files={"image": RED}, data={"user_id": user}, timeout=10)
    answer.raise_for_status()
    return answer


async def storm(url: str) -> list[httpx.Response]:
    """Many clients, each one request after the other."""

    async def one(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await client.post("/v1/search", files={"image": RED}) for _ in range(EACH)]

    async with httpx.AsyncClient(base_url=url, timeout=20) as client:
        answers = await asyncio.gather(*(one(client) for _ in range(CLIENTS)))
    return [answer for some in answers for answer in some]


def assert_sheds(url: str) -> None:
    answers = asyncio.run(storm(url))
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) == {200, 429}
    assert len(answers) == CLIENTS * EACH
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert_problem(refused, 429, "Try again")
    assert refused.headers["retry-after"] == "2"
    assert search(url).json()["hits"]


def test_a_bento_refuses_what_is_too_much(home: Path, environment: dict[str, str]) -> None:
    with version_process(home / "immr-2", environment, max_under_way=3) as url:
        assert_sheds(url)


def test_a_gateway_refuses_what_is_too_much(bento_url: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    save(Experiment("test", "salt", (Variant(CHAMPION, bento_url, "immr-1", 1.0),)), settings.experiment_file)
    with gateway_process(settings, "--max-under-way=3") as url:
        assert_sheds(url)


def test_a_bentos_429_reaches_the_caller_and_is_no_failure(
    home: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path)
    with version_process(home / "immr-2", environment, max_under_way=1) as bento:
        save(Experiment("test", "salt", (Variant(CHAMPION, bento, "immr-2", 1.0),)), settings.experiment_file)
        with gateway_process(settings) as url:
            assert_sheds(url)
            assert 'kind="variant_down"' not in httpx.get(f"{url}/metrics").text


def test_slow_senders_keep_no_one_out(home: Path, environment: dict[str, str]) -> None:
    head = b"POST /v1/search HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=b\r\n"
    with version_process(home / "immr-2", environment, max_under_way=1) as url:
        address = ("127.0.0.1", int(url.rsplit(":", 1)[1]))
        slow = [socket.create_connection(address) for _ in range(20)]
        for sender in slow:
            sender.sendall(head + b"content-length: 1000\r\n\r\n--b")
        time.sleep(0.2)
        assert search(url).json()["hits"]
        for sender in slow:
            sender.close()
        assert search(url).json()["hits"]


def test_a_slow_challenger_is_left_alone_and_comes_back(
    home: Path, environment: dict[str, str], bento_url: str, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path)
    port = free_port()
    wanted = experiment(bento_url, f"http://127.0.0.1:{port}")
    user = user_of("challenger", wanted)
    save(wanted, settings.experiment_file)
    with gateway_process(settings, "--timeout-s=0.4") as url:
        with socket.create_server(("127.0.0.1", port)):  # takes connections and never answers
            took_s = [search(url, user).elapsed.total_seconds() for _ in range(8)]
            body = search(url, user).json()
            assert 'immr_breaker_open{variant="challenger"} 1.0' in httpx.get(f"{url}/metrics").text
        assert min(took_s[:5]) >= 0.4  # those found out that it is slow
        assert max(took_s[5:]) < 0.3  # these were spared
        assert (body["variant"], body["model_version"]) == ("challenger", "immr-1")
        assert recorded_search(settings, body["query_id"])["fallback"] is True
        with version_process(home / "immr-2", environment, port=port):
            while (body := search(url, user).json())["model_version"] != "immr-2":
                time.sleep(0.1)
        assert recorded_search(settings, body["query_id"])["fallback"] is False
