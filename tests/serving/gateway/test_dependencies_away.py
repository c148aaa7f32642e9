"""What a search stands on goes away and comes back, under running processes: what can goes on."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pyarrow as pa

from immr.experiment.definition import CHAMPION, Experiment, Variant, save
from immr.features.stats import SCHEMA
from immr.index.names import collection_name
from immr.settings import Settings
from immr.wiring import connect
from tests.serving.bento.test_app import assert_problem, click, rows
from tests.support import qdrant_process, redis_process, tiny_version
from tests.support.patience import until
from tests.support.upstream_process import free_port, process_on
from tests.support.version_process import version_process

RED = tiny_version.photo("red")


def search(url: str) -> httpx.Response:
    return httpx.post(f"{url}/v1/search", files={"image": RED}, timeout=60)


def stats() -> pa.Table:
    """Features of the tiny catalogue, as of an hour ago."""
    then = datetime.now(UTC) - timedelta(hours=1)
    values = (2.0, "Things", 30, 3, 0.1, 5.0, then, then)
    rows = [dict(zip(SCHEMA.names, (name, *values), strict=True)) for name in tiny_version.COLOURS]
    return pa.Table.from_pylist(rows, SCHEMA)


def test_without_features_searches_go_on_and_say_so(home: Path, tmp_path: Path) -> None:
    """The online store is a Redis that is stopped, and started anew with nothing in it."""
    with ExitStack() as running:
        first = running.enter_context(ExitStack())
        port = first.enter_context(redis_process.serving(tmp_path))
        settings = Settings(
            home=tmp_path,
            index_url=Settings(home=home).index_url,
            features_url=f"redis://127.0.0.1:{port}",
        )
        connect(settings).features.materialize(stats())
        environment = {**os.environ, **settings.environment(), "OMP_NUM_THREADS": "1"}
        url = running.enter_context(version_process(home / "immr-2", environment))
        until(lambda: search(url).json()["degraded"] == [])
        assert search(url).json()["hits"][0]["features"]["price"] == 2.0
        first.close()
        until(lambda: search(url).json()["degraded"] == ["features"])
        body = search(url).json()
        assert [hit["features"] for hit in body["hits"]] == [None] * 5
        assert body["hits"][0]["item_id"] == "red"
        assert httpx.get(f"{url}/health/ready").status_code == 200
        running.enter_context(redis_process.serving(tmp_path, port))
        until(lambda: search(url).json()["degraded"] == [])
        connect(settings).features.materialize(stats())
        until(lambda: search(url).json()["hits"][0]["features"])


def test_a_feature_store_that_is_damaged_is_the_same(home: Path, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, index_url=Settings(home=home).index_url)
    connect(settings).features.materialize(stats())
    [online] = Path(urlsplit(settings.features_url).path).rglob("online*.db")
    whole = online.read_bytes()
    online.write_bytes(b"\x00" * len(whole))
    environment = {**os.environ, **settings.environment(), "OMP_NUM_THREADS": "1"}
    with version_process(home / "immr-2", environment) as url:
        assert search(url).json()["degraded"] == ["features"]
        online.with_name("whole").write_bytes(whole)
        online.with_name("whole").rename(online)
        until(lambda: search(url).json()["degraded"] == [])


def test_without_its_index_a_version_is_not_ready_and_comes_back_by_itself(
    home: Path, tmp_path: Path
) -> None:
    port, collection = free_port(), collection_name("immr-1")
    index = tmp_path / "index"  # in local mode, which the stand-in serves
    tiny_version.build_index(
        Settings(home=tmp_path, index_url=f"file://{index}"),
        home / "immr-1",
        tiny_version.items(tmp_path / "pictures"),
    )
    settings = Settings(home=tmp_path, index_url=f"http://127.0.0.1:{port}")
    environment = {**os.environ, **settings.environment(), "OMP_NUM_THREADS": "1"}
    probes = ("/health/ready", "/v2/health/ready", "/v2/models/immr-1/ready")
    with qdrant_process.serving(index, collection, port):
        process = version_process(home / "immr-1", environment)
        url = process.__enter__()
        assert search(url).json()["hits"][0]["item_id"] == "red"
    try:
        for _ in range(3):
            answer = search(url)
            assert_problem(answer, 503, "is not available", "IMMR_INDEX_URL")
            assert answer.headers["retry-after"] == "2"
        for probe in probes:
            answer = httpx.get(url + probe, timeout=60)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert httpx.get(f"{url}/health/live").status_code == 200
        with qdrant_process.serving(index, collection, port):
            until(lambda: search(url).status_code == 200)
            assert [httpx.get(url + probe, timeout=60).status_code for probe in probes] == [200] * 3
    finally:
        process.__exit__(None, None, None)


@contextmanager
def gateway(settings: Settings, champion: str, *before: str) -> Iterator[str]:
    """A gateway in a home of its own; `before` is what starts it."""
    save(Experiment("test", "salt", (Variant(CHAMPION, champion, "immr-1", 1.0),)), settings.experiment_file)
    port = free_port()
    command = [*before, sys.executable, "-m", "serving.gateway", f"--port={port}"]
    with process_on(port, *command, env={**os.environ, **settings.environment()}) as url:
        yield url


def clicked(url: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(
        f"{url}/v1/events", json={"events": [click(body["hits"][0]["click_token"])]}, timeout=60
    )


def own_settings(tmp_path: Path, settings: Settings) -> Settings:
    """A home of its own, with the key that the Bento signs with."""
    return Settings(home=tmp_path, token_key_file=settings.token_key_file)


def test_while_another_process_locks_the_event_log_searches_go_on(
    bento_url: str, settings: Settings, tmp_path: Path
) -> None:
    own = own_settings(tmp_path, settings)
    with gateway(own, bento_url) as url:
        rows(own, search(url).json()["query_id"])  # the log is there
        with closing(sqlite3.connect(urlsplit(own.events_url).path)) as other:
            other.execute("BEGIN EXCLUSIVE")
            bodies = [search(url).json() for _ in range(20)]
            assert all(body["hits"] and "events" not in body["degraded"] for body in bodies)
            answer = clicked(url, bodies[0]).json()
            assert (answer["accepted"], answer["waiting"]) == (1, 1)
            other.rollback()
        for body in bodies:
            recorded = rows(own, body["query_id"])
            assert sum(row["clicked"] for row in recorded) == (body is bodies[0])


def test_on_a_full_disk_searches_go_on_and_say_so(bento_url: str, settings: Settings, tmp_path: Path) -> None:
    """No file of the gateway may grow beyond 70 KB, which is what a full disk comes to."""
    own = own_settings(tmp_path, settings)
    with gateway(own, bento_url, "prlimit", "--fsize=70000") as url:
        while "events" not in (body := search(url).json())["degraded"]:
            assert body["hits"]
        assert body["hits"][0]["item_id"] == "red"
        answer = clicked(url, body)
        assert_problem(answer, 503, "Send the same events again")
        assert answer.headers["retry-after"]
        assert httpx.get(f"{url}/health/ready").status_code == 200
