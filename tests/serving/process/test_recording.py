"""What is recorded, and what is answered where it cannot be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from immr.events.delivery import Delivery
from immr.events.entries import Clicked
from immr.events.kafka.url import KafkaUrl
from immr.settings import Settings
from serving.process.metrics import Metrics
from serving.process.recording import Recorder
from serving.wire.schemas import EventBody
from tests.events.kafka.test_log import messages
from tests.serving.bento.test_app import assert_problem, click, rows
from tests.serving.conftest import served_version, wait_ready
from tests.serving.gateway.test_dependencies_away import gateway
from tests.support import tiny_version
from tests.support.kafka_cluster import mock_cluster
from tests.support.upstream_process import free_port

RED = tiny_version.photo("red")


def search(url: str, **headers: str) -> dict[str, Any]:
    answer = httpx.post(f"{url}/v1/search", files={"image": RED}, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def clicked(url: str, body: dict[str, Any]) -> httpx.Response:
    events = {"events": [click(body["hits"][0]["click_token"])]}
    return httpx.post(f"{url}/v1/events", json=events, timeout=60)


def test_an_event_that_gets_to_the_log_while_the_disk_is_waited_for_counts_once(
    bento_url: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Settings(home=tmp_path, token_key_file=settings.token_key_file)
    in_the_way = Path(urlsplit(own.events_url).path)
    in_the_way.mkdir(parents=True)  # no database can be opened here
    told: list[Future[int]] = []
    take, sync = Delivery.clicked, Delivery.sync

    def noted(delivery: Delivery, clicked: Clicked) -> Future[int]:
        told.append(take(delivery, clicked))
        return told[-1]

    def slow(delivery: Delivery) -> None:
        sync(delivery)
        in_the_way.rmdir()
        told[-1].result(timeout=20)

    monkeypatch.setattr(Delivery, "clicked", noted)
    monkeypatch.setattr(Delivery, "sync", slow)
    token = search(bento_url, **{"x-immr-variant": "champion"})["hits"][0]["click_token"]
    event = EventBody.model_validate(click(token))

    async def send() -> tuple[int, int, int]:
        recorder = Recorder(own, Metrics())
        answer = await recorder.record_events([event, event])
        await recorder.close()
        return answer.accepted, answer.waiting, answer.duplicates

    assert asyncio.run(send()) == (1, 0, 1)


def test_where_no_event_can_be_kept_searches_are_answered_all_the_same(
    home: Path, settings: Settings, tmp_path: Path
) -> None:
    """A cluster's Bento has a home that it may only read; here a file stands where the folder would be."""
    own = Settings(home=tmp_path, index_url=settings.index_url, token_key_file=settings.token_key_file)
    own.waiting_events_dir.parent.mkdir()
    own.waiting_events_dir.touch()
    with served_version(own, home / "immr-2") as url:
        wait_ready(url)
        body = search(url)
        assert body["variant"] == "direct" and body["hits"] and "events" in body["degraded"]
        assert_problem(clicked(url, body), 503, "Send the same events again")
        own.waiting_events_dir.unlink()
        body = search(url)
        assert "events" not in body["degraded"]
        assert clicked(url, body).json()["accepted"] == 1
        assert sum(row["clicked"] for row in rows(own, body["query_id"])) == 1


@pytest.fixture(scope="module")
def topic_url() -> Iterator[str]:
    with mock_cluster() as brokers:
        yield f"kafka://{brokers}/immr-events"


def counts(answer: httpx.Response) -> tuple[int, int, int]:
    body = answer.json()
    return body["accepted"], body["waiting"], body["duplicates"]


def test_gateways_record_to_one_topic(
    bento_url: str, settings: Settings, topic_url: str, tmp_path: Path
) -> None:
    first, second = (
        Settings(home=tmp_path / name, token_key_file=settings.token_key_file, events_url=topic_url)
        for name in ("first", "second")
    )
    with gateway(first, bento_url) as one, gateway(second, bento_url) as other:
        body = search(one)
        assert body["variant"] == "champion" and "events" not in body["degraded"]
        assert counts(clicked(one, body)) == (1, 0, 0)
        assert counts(clicked(one, body)) == (0, 0, 1)
        elsewhere = search(one)
        assert counts(clicked(other, elsewhere)) == (1, 0, 0)
        for each in (body, elsewhere):
            shown = rows(second, each["query_id"])
            assert [row["item_id"] for row in shown] == [hit["item_id"] for hit in each["hits"]]
            assert [row["clicked"] for row in shown] == [True] + [False] * (len(shown) - 1)


def test_a_users_events_keep_their_order_over_gateways(
    bento_url: str, settings: Settings, topic_url: str, tmp_path: Path
) -> None:
    own_topic = f"{topic_url}-order"
    first, second = (
        Settings(home=tmp_path / name, token_key_file=settings.token_key_file, events_url=own_topic)
        for name in ("first", "second")
    )
    wanted: list[str] = []
    with gateway(first, bento_url) as one, gateway(second, bento_url) as other, httpx.Client() as visitor:
        for number in range(8):  # by her cookie, which both know
            asked, told = (one, other) if number % 2 else (other, one)
            answer = visitor.post(f"{asked}/v1/search", files={"image": RED}, timeout=60)
            wanted.append(answer.json()["query_id"])
            rows(second, wanted[-1])  # it gets to the log after its answer
            assert counts(clicked(told, answer.json())) == (1, 0, 0)
    url = KafkaUrl.parse(own_topic)
    found = messages(url.config["bootstrap.servers"], url.topic)
    assert len({partition for partition, _, _ in found}) == 1
    events = [next(iter(body.values()))["query_id"] for _, _, body in found]
    assert events == [query for query in wanted for _ in ("search", "click")]


def test_what_waits_while_kafka_is_away_the_next_gateway_with_that_disk_delivers(
    bento_url: str, settings: Settings, topic_url: str, tmp_path: Path
) -> None:
    key = settings.token_key_file
    away = Settings(
        home=tmp_path, token_key_file=key, events_url=f"kafka://127.0.0.1:{free_port()}/immr-events"
    )
    there = Settings(home=tmp_path, token_key_file=key, events_url=topic_url)
    with gateway(away, bento_url) as url:
        body = search(url)
        assert "events" not in body["degraded"]
        assert counts(clicked(url, body)) == (1, 1, 0)
    with gateway(there, bento_url):
        assert sum(row["clicked"] for row in rows(there, body["query_id"])) == 1
