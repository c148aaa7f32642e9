"""Searches continue while a dependency is down, report what they lack, and recover without a restart."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pyarrow as pa

from immr.experiment.file import save
from immr.features.item_stats import SCHEMA
from immr.index.collection_names import collection_name
from immr.settings import Settings
from immr.wiring import connect
from tests.support import http_client, qdrant_process, redis_process, tiny_version
from tests.support.in_process import ready_version, served_gateway
from tests.support.patience import until
from tests.support.shopper import RED, alone, assert_problem, click, rows
from tests.support.upstream_process import free_port, process_on


def search(url: str) -> httpx.Response:
    return http_client.post(f"{url}/v1/search", files={"image": RED})


def stats() -> pa.Table:
    """Features of the tiny catalogue, an hour old."""
    then = datetime.now(UTC) - timedelta(hours=1)
    values = (2.0, "Things", 30, 3, 0.1, 5.0, then, then)
    rows = [dict(zip(SCHEMA.names, (name, *values), strict=True)) for name in tiny_version.COLOURS]
    return pa.Table.from_pylist(rows, SCHEMA)


def test_without_its_feature_store_a_version_answers_and_reports_it(free_home: Path, tmp_path: Path) -> None:
    """The online store is a Redis that is stopped, and restarted empty."""
    with ExitStack() as running:
        first = running.enter_context(ExitStack())
        port = first.enter_context(redis_process.serving(tmp_path))
        settings = Settings(
            home=tmp_path,
            index_url=Settings(home=free_home).index_url,
            features_url=f"redis://127.0.0.1:{port}",
        )
        connect(settings).features.materialize(stats())
        url = running.enter_context(ready_version(settings, free_home / "immr-2"))
        first_answer = search(url).json()
        assert first_answer["degraded"] == [], "a version that is ready has its features"
        assert first_answer["hits"][0]["features"]["price"] == 2.0
        first.close()
        until(lambda: search(url).json()["degraded"] == ["features"])
        body = search(url).json()
        assert [hit["features"] for hit in body["hits"]] == [None] * 5
        assert body["hits"][0]["item_id"] == "red"
        assert http_client.get(f"{url}/health/ready").status_code == 200
        running.enter_context(redis_process.serving(tmp_path, port))
        until(lambda: search(url).json()["degraded"] == [])
        connect(settings).features.materialize(stats())
        until(lambda: search(url).json()["hits"][0]["features"])


def test_a_version_recovers_from_a_damaged_feature_store(free_home: Path, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, index_url=Settings(home=free_home).index_url)
    connect(settings).features.materialize(stats())
    [online] = Path(urlsplit(settings.features_url).path).rglob("online*.db")
    whole = online.read_bytes()
    online.write_bytes(b"\x00" * len(whole))
    with ready_version(settings, free_home / "immr-2") as url:
        assert search(url).json()["degraded"] == ["features"]
        online.with_name("whole").write_bytes(whole)
        online.with_name("whole").rename(online)
        until(lambda: search(url).json()["degraded"] == [])


def test_without_its_index_a_version_is_not_ready_and_recovers(free_home: Path, tmp_path: Path) -> None:
    port, collection = free_port(), collection_name("immr-1")
    index = tmp_path / "index"  # in local mode, which the stand-in serves
    tiny_version.build_index(
        Settings(home=tmp_path, index_url=f"file://{index}"),
        free_home / "immr-1",
        tiny_version.items(tmp_path / "pictures"),
    )
    settings = Settings(home=tmp_path, index_url=f"http://127.0.0.1:{port}")
    probes = ("/health/ready", "/v2/health/ready", "/v2/models/immr-1/ready")
    with ExitStack() as running:
        with qdrant_process.serving(index, collection, port):
            url = running.enter_context(ready_version(settings, free_home / "immr-1"))
            assert search(url).json()["hits"][0]["item_id"] == "red"
        for _ in range(3):
            answer = search(url)
            assert_problem(answer, 503, "is not available", "IMMR_INDEX_URL")
            assert answer.headers["retry-after"] == "2"
        for probe in probes:
            answer = http_client.get(url + probe)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert http_client.get(f"{url}/health/live").status_code == 200
        with qdrant_process.serving(index, collection, port):
            until(lambda: search(url).status_code == 200)
            assert [http_client.get(url + probe).status_code for probe in probes] == [200] * 3


def clicked(client: httpx.Client, body: dict[str, Any]) -> httpx.Response:
    return client.post("/v1/events", json={"events": [click(body["hits"][0]["click_token"])]})


def test_while_another_process_locks_the_event_log_events_wait_on_disk(
    bento_url: str, own_settings: Settings
) -> None:
    save(alone(bento_url), own_settings.experiment_file)
    with served_gateway(own_settings, timeout_s=20) as client:
        url = str(client.base_url)
        rows(own_settings, search(url).json()["query_id"])  # the log exists
        with closing(sqlite3.connect(urlsplit(own_settings.events_url).path)) as other:
            other.execute("BEGIN EXCLUSIVE")
            bodies = [search(url).json() for _ in range(20)]
            assert all(body["hits"] and "events" not in body["degraded"] for body in bodies)
            answer = clicked(client, bodies[0]).json()
            assert (answer["accepted"], answer["waiting"]) == (1, 1)
            other.rollback()
        for body in bodies:
            recorded = rows(own_settings, body["query_id"])
            assert sum(row["clicked"] for row in recorded) == (body is bodies[0])


def test_on_a_full_disk_searches_are_answered_and_report_it(bento_url: str, own_settings: Settings) -> None:
    """No file of the gateway may grow beyond 70 KB, which has the effect of a full disk."""
    save(alone(bento_url), own_settings.experiment_file)
    command = ["prlimit", "--fsize=70000", sys.executable, "-m", "serving.gateway"]
    command.append(f"--port={(port := free_port())}")
    with (
        process_on(port, *command, env={**os.environ, **own_settings.environment()}) as url,
        httpx.Client(base_url=url, timeout=60, trust_env=False) as client,
    ):
        while "events" not in (body := client.post("/v1/search", files={"image": RED}).json())["degraded"]:
            assert body["hits"]
        assert body["hits"][0]["item_id"] == "red"
        answer = clicked(client, body)
        assert_problem(answer, 503, "Send the same events again")
        assert answer.headers["retry-after"]
        assert client.get("/health/ready").status_code == 200
