"""What is recorded, and the answers while recording fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from immr.events.delivery import Delivery
from immr.events.journal_entries import Clicked
from immr.events.kafka.url import KafkaUrl
from immr.experiment.file import save
from immr.settings import Settings
from immr.wiring import connect
from serving.process.metrics import Metrics
from serving.process.recording import Recorder
from serving.wire.schemas import EventBody
from tests.events.kafka.test_log import messages
from tests.support import http_client
from tests.support.in_process import ready_version, served_gateway
from tests.support.kafka_cluster import mock_cluster
from tests.support.shopper import RED, alone, assert_problem, click, rows
from tests.support.upstream_process import free_port


@contextmanager
def gateway(settings: Settings, champion: str) -> Iterator[str]:
    save(alone(champion), settings.experiment_file)
    with served_gateway(settings, timeout_s=20) as client:
        yield str(client.base_url).rstrip("/")


def search(url: str, **headers: str) -> dict[str, Any]:
    answer = http_client.post(f"{url}/v1/search", files={"image": RED}, headers=headers)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def clicked(url: str, body: dict[str, Any]) -> httpx.Response:
    events = {"events": [click(body["hits"][0]["click_token"])]}
    return http_client.post(f"{url}/v1/events", json=events)


def test_an_event_that_reaches_the_log_during_the_disk_sync_counts_once(
    bento_url: str, own_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = own_settings
    in_the_way = Path(urlsplit(own.events_url).path)
    in_the_way.mkdir(parents=True)  # so that no database can be opened
    futures: list[Future[int]] = []
    take, sync = Delivery.clicked, Delivery.sync

    def noted(delivery: Delivery, clicked: Clicked) -> Future[int]:
        futures.append(take(delivery, clicked))
        return futures[-1]

    def slow(delivery: Delivery) -> None:
        sync(delivery)
        in_the_way.rmdir()
        futures[-1].result(timeout=20)

    monkeypatch.setattr(Delivery, "clicked", noted)
    monkeypatch.setattr(Delivery, "sync", slow)
    token = search(bento_url, **{"x-immr-variant": "champion"})["hits"][0]["click_token"]
    event = EventBody.model_validate(click(token))

    async def send() -> tuple[int, int, int]:
        recorder = Recorder(connect(own), Metrics())
        answer = await recorder.record_events([event, event])
        await recorder.close()
        return answer.accepted, answer.waiting, answer.duplicates

    assert asyncio.run(send()) == (1, 0, 1)


def test_a_bento_that_cannot_record_answers_searches_and_refuses_clicks(
    free_home: Path, tmp_path: Path
) -> None:
    """On a cluster, a Bento's home is read-only; here a file blocks the place of the folder."""
    own = Settings(home=tmp_path, index_url=Settings(home=free_home).index_url)
    own.waiting_events_dir.parent.mkdir()
    own.waiting_events_dir.touch()
    with ready_version(own, free_home / "immr-2") as url:
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


def test_two_gateways_record_to_one_topic(
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


def test_a_users_events_keep_their_order_across_gateways(
    bento_url: str, settings: Settings, topic_url: str, tmp_path: Path
) -> None:
    own_topic = f"{topic_url}-order"
    first, second = (
        Settings(home=tmp_path / name, token_key_file=settings.token_key_file, events_url=own_topic)
        for name in ("first", "second")
    )
    wanted: list[str] = []
    with gateway(first, bento_url) as one, gateway(second, bento_url) as other, httpx.Client() as visitor:
        for number in range(8):  # identified by a cookie that both gateways accept
            first_url, second_url = (one, other) if number % 2 else (other, one)
            answer = visitor.post(f"{first_url}/v1/search", files={"image": RED}, timeout=60)
            wanted.append(answer.json()["query_id"])
            rows(second, wanted[-1])  # recorded after the answer
            assert counts(clicked(second_url, answer.json())) == (1, 0, 0)
    url = KafkaUrl.parse(own_topic)
    found = messages(url.config["bootstrap.servers"], url.topic)
    assert len({partition for partition, _, _ in found}) == 1
    events = [next(iter(body.values()))["query_id"] for _, _, body in found]
    assert events == [query for query in wanted for _ in ("search", "click")]


@pytest.mark.slow
def test_the_next_gateway_on_a_disk_delivers_what_waited_for_kafka(
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
