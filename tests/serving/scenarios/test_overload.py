"""More load than the services can take, slow senders, and a variant that is too slow."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from pathlib import Path

import httpx

from immr.experiment.file import save
from immr.settings import Settings
from tests.support import http_client
from tests.support.in_process import ready_version, served_gateway, served_version
from tests.support.patience import until
from tests.support.shopper import (
    RED,
    alone,
    assert_problem,
    experiment,
    recorded_search,
    search,
    user_of,
)
from tests.support.upstream_process import free_port

CLIENTS, EACH = 24, 5


async def storm(url: str) -> list[httpx.Response]:
    """Many clients that each send one search after the other."""

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
    assert http_client.post(f"{url}/v1/search", files={"image": RED}).json()["hits"]


def test_a_bento_refuses_more_searches_than_its_limit(free_home: Path) -> None:
    with ready_version(Settings(home=free_home), free_home / "immr-2", max_in_progress=3) as url:
        assert_sheds(url)


def test_a_gateway_refuses_more_searches_than_its_limit(bento_url: str, own_settings: Settings) -> None:
    save(alone(bento_url), own_settings.experiment_file)
    with served_gateway(own_settings, max_in_progress=3) as client:
        assert_sheds(str(client.base_url))


def test_a_bentos_429_reaches_the_caller_and_does_not_count_as_a_failure(
    free_home: Path, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path)
    with ready_version(Settings(home=free_home), free_home / "immr-2", max_in_progress=1) as bento:
        save(alone(bento, "immr-2"), settings.experiment_file)
        with served_gateway(settings) as client:
            assert_sheds(str(client.base_url))
            assert 'kind="variant_down"' not in client.get("/metrics").text


def test_slow_senders_do_not_take_places(free_home: Path) -> None:
    head = b"POST /v1/search HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=b\r\n"
    with ready_version(Settings(home=free_home), free_home / "immr-2", max_in_progress=1) as url:
        address = ("127.0.0.1", int(url.rsplit(":", 1)[1]))
        slow = [socket.create_connection(address) for _ in range(20)]
        for sender in slow:
            sender.sendall(head + b"content-length: 1000\r\n\r\n--b")
        # the server reads from one connection after the other, so it has read from these by then
        assert [http_client.get(f"{url}/health/live").status_code for _ in range(2)] == [200, 200]
        assert http_client.post(f"{url}/v1/search", files={"image": RED}).json()["hits"]
        for sender in slow:
            sender.close()
        assert http_client.post(f"{url}/v1/search", files={"image": RED}).json()["hits"]


def test_a_slow_challenger_is_not_asked_for_a_while_and_recovers(
    free_home: Path, bento_url: str, own_settings: Settings
) -> None:
    port = free_port()
    wanted = experiment(bento_url, f"http://127.0.0.1:{port}")
    user = user_of("challenger", wanted)
    save(wanted, own_settings.experiment_file)
    with served_gateway(own_settings, timeout_s=0.4) as client:
        with socket.create_server(("127.0.0.1", port)):  # accepts connections and never answers
            took_s = [search(client, user_id=user).elapsed.total_seconds() for _ in range(8)]
            body = search(client, user_id=user).json()
            assert 'immr_breaker_open{variant="challenger"} 1.0' in client.get("/metrics").text
        assert min(took_s[:5]) >= 0.4, "these found out that it is slow"
        assert max(took_s[5:]) < 0.3, "these were not sent to it"
        assert (body["variant"], body["model_version"]) == ("challenger", "immr-1")
        assert recorded_search(own_settings, body["query_id"])["fallback"] is True
        with served_version(Settings(home=free_home), free_home / "immr-2", port=port):
            answers: list[dict[str, str]] = []

            def is_back() -> bool:
                answers.append(search(client, user_id=user).json())
                return answers[-1]["model_version"] == "immr-2"

            until(is_back)
        assert recorded_search(own_settings, answers[-1]["query_id"])["fallback"] is False
