"""Metrics: those that are read on each scrape, and the whole list against the documentation."""

from __future__ import annotations

import math
import re
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from prometheus_client import generate_latest

from serving.process.metrics import Metrics
from tests.support import http_client, tiny_version
from tests.support.patience import until
from tests.support.real_services import Services
from tests.support.upstream_process import free_port


def value(metrics: Metrics, name: str) -> float:
    return value_of(generate_latest(metrics.registry).decode(), name)


def test_index_and_features_are_read_on_a_scrape() -> None:
    metrics = Metrics()
    documents, newest = [5], [None, datetime.now(UTC) - timedelta(hours=2)]
    metrics.watch(lambda: documents[0], lambda: newest[0], fresh_s=0)
    assert value(metrics, "immr_index_documents") == 5
    assert value(metrics, "immr_features_age_seconds") != value(metrics, "immr_features_age_seconds")  # NaN
    documents[0] = 6
    newest.pop(0)
    assert value(metrics, "immr_index_documents") == 6
    assert 7190 < value(metrics, "immr_features_age_seconds") < 8000


def test_an_unknown_value_is_nan_and_delays_no_scrape(caplog: pytest.LogCaptureFixture) -> None:
    metrics, hanging, asked = Metrics(), threading.Event(), []

    def away() -> int:
        asked.append("documents")
        raise ConnectionError("the index is away")

    def hangs() -> datetime:
        asked.append("features")
        hanging.wait(60)
        return datetime.now(UTC)

    metrics.watch(away, hangs, fresh_s=0.2)
    stop = metrics.serve("127.0.0.1", port := free_port())
    try:
        for _ in range(3):
            answer = http_client.get(f"http://127.0.0.1:{port}/metrics")
            assert answer.elapsed.total_seconds() < 1.5
            assert math.isnan(value_of(answer.text, "immr_index_documents"))
            assert math.isnan(value_of(answer.text, "immr_features_age_seconds"))
            assert value_of(answer.text, "immr_events_waiting_bytes") == 0
        assert asked.count("features") == 1, "a source that hangs is not read again"
        assert caplog.text.count("the index is away") == 1
        hanging.set()
        until(lambda: not math.isnan(value(metrics, "immr_features_age_seconds")))
    finally:
        stop()


def test_a_value_is_cached_between_scrapes() -> None:
    metrics, asked = Metrics(), []

    def documents() -> int:
        asked.append(1)
        return 5

    metrics.watch(documents, lambda: None)
    assert [value(metrics, "immr_index_documents") for _ in range(5)] == [5] * 5
    assert len(asked) == 1


def test_the_documented_metrics_are_the_ones_that_are_served(
    services: Services,
) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "serving.md").read_text()
    documented = {
        (name, of)
        for names, of in re.findall(r"^\| (`immr_.*?`) \| (both|Bento|gateway) \|", page, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    assert len(documented) >= 14
    for of, url, other in (
        ("Bento", services.bento_metrics, "gateway"),
        ("gateway", services.gateway_metrics, "Bento"),
    ):
        text = http_client.get(f"{url}/metrics", timeout=60).text
        served = set(re.findall(r"^# TYPE (immr_\w+) ", text, re.MULTILINE))
        served = {name for name in served if not name.endswith("_created")}
        wanted = {name for name, whose in documented if whose != other}
        assert wanted <= served, f"missing on the port of the {of}"
        assert served <= {name for name, _ in documented}, f"not documented, on the port of the {of}"


def test_metrics_count_requests_and_events(services: Services) -> None:
    red = tiny_version.photo("red")
    with httpx.Client(base_url=services.bento, timeout=60) as bento:
        bento.post("/v1/search", files={"image": b""})
        hit = bento.post("/v1/search", files={"image": red}).json()["hits"][0]
        event = {"type": "click", "click_token": hit["click_token"], "ts": datetime.now(UTC).isoformat()}
        assert bento.post("/v1/events", json={"events": [event]}).json()["accepted"] == 1
        side = tiny_version.SIZE_PX
        tensor = {
            "name": "pixels",
            "datatype": "FP32",
            "shape": [2, 3, side, side],
            "data": [0] * 6 * side**2,
        }
        bento.post("/v2/models/immr-1/infer", json={"inputs": [tensor]}).raise_for_status()
        assert bento.get("/metrics").status_code == 404
    text = http_client.get(f"{services.bento_metrics}/metrics", timeout=60).text
    for line in (
        r'immr_requests_total{route="/v1/search",status="200"} [1-9]',
        r'immr_errors_total{kind="http_422"} [1-9]',
        *[
            rf'immr_stage_seconds_count{{stage="{stage}"}} [1-9]'
            for stage in ("decode", "encode", "retrieve", "features", "rank", "total")
        ],
        r'immr_batch_size_bucket{le="1.0"} [1-9]',
        r'immr_impressions_total{model_version="immr-1",variant="direct"} [1-9]',
        r'immr_events_total{model_version="immr-1",type="click",variant="direct"} [1-9]',
        r'immr_degraded_total{part="features"} [1-9]',
        r"immr_index_documents 5\.0",
        r"immr_features_age_seconds NaN",
        r"immr_events_waiting_bytes [0-9]",
    ):
        assert re.search(f"^{line}", text, re.MULTILINE), line
    assert value_of(text, 'immr_batch_size_bucket{le="2.0"}') > value_of(
        text, 'immr_batch_size_bucket{le="1.0"}'
    )


def value_of(text: str, name: str) -> float:
    return next(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{name} "))
