"""Prometheus metrics: requests, errors, latency by stage, impressions, clicks. Never a user in a label."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from datetime import datetime

from fastapi import FastAPI, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

FRESH_S = 5.0
_SCRAPE_WAITS_S = 0.5  # per metric: Prometheus abandons the whole scrape after ten seconds
_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The metrics of one process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("immr_requests_total", "HTTP requests", "route", "status")
        self.errors = self._counter("immr_errors_total", "Errors", "kind")
        self.searches_in_progress = Gauge(
            "immr_searches_in_progress", "Searches that are being answered", registry=self.registry
        )
        self.stage_s = Histogram(
            "immr_stage_seconds", "Time in each stage", ["stage"], buckets=_BUCKETS_S, registry=self.registry
        )
        self.batch_size = Histogram(
            "immr_batch_size",
            "Pictures in one request to the encoder",
            buckets=(1, 2, 4, 8, 16),
            registry=self.registry,
        )
        self.impressions = self._counter("immr_impressions_total", "Items shown", "variant", "model_version")
        self.events = self._counter(
            "immr_events_total", "Clicks and orders", "type", "variant", "model_version"
        )
        self.degraded = self._counter("immr_degraded_total", "Answers that lack this part", "part")
        self.events_waiting_bytes = Gauge(
            "immr_events_waiting_bytes",
            "Events on disk, waiting for the event log",
            registry=self.registry,
        )
        self.experiment_wrong = Gauge(
            "immr_experiment_file_wrong",
            "1 while the experiment file is invalid and the previous one is in force",
            registry=self.registry,
        )
        self.shadow = self._counter(
            "immr_shadow_total", "Copies of searches sent to the challenger", "outcome"
        )
        self.shadow_overlap = Histogram(
            "immr_shadow_overlap",
            "Share of hits that champion and challenger have in common",
            buckets=[number / 10 for number in range(11)],
            registry=self.registry,
        )
        self._has_own_port = False

    def watch(
        self,
        documents: Callable[[], int],
        newest_feature: Callable[[], datetime | None],
        fresh_s: float = FRESH_S,
    ) -> None:
        """Adds the size of the index and the age of the features, at most `fresh_s` old.

        They are NaN while unknown; a source that hangs does not hold up the other metrics.
        """

        def made_at() -> float:
            newest = newest_feature()
            return newest.timestamp() if newest else math.nan

        size = _BackgroundValue("immr_index_documents", documents, fresh_s)
        made_at_s = _BackgroundValue("immr_features_age_seconds", made_at, fresh_s)
        documents_gauge = Gauge("immr_index_documents", "Documents in the index", registry=self.registry)
        documents_gauge.set_function(size.value)
        age = Gauge("immr_features_age_seconds", "Age of the newest feature", registry=self.registry)
        age.set_function(lambda: time.time() - made_at_s.value())

    def watch_variants(self, open_breakers: Callable[[], Mapping[str, bool]]) -> None:
        """Adds whether the circuit breaker of each current variant is open."""
        self.registry.register(_OpenBreakers(open_breakers))

    def serve(self, host: str, port: int) -> Callable[[], None]:
        """Serves the metrics on a separate port instead of the API's; returns a function that stops it.

        Raises:
            OSError: the port is taken.
        """
        server, thread = start_http_server(port, host, self.registry)
        self._has_own_port = True

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop

    def observe(self, stage_ms: Mapping[str, float]) -> None:
        """Adds the stages of one request."""
        for stage, took_ms in stage_ms.items():
            self.stage_s.labels(stage).observe(took_ms / 1000)

    def attach(self, app: FastAPI) -> None:
        """Counts the application's requests, and adds /metrics unless it has a port of its own."""
        app.add_middleware(_Counted, metrics=self)
        if self._has_own_port:
            return

        @app.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
        def metrics() -> Response:
            return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(name, help_text, labels, registry=self.registry)


class _BackgroundValue:
    """A number from a source that may be slow or down, read in a thread, one read at a time."""

    def __init__(self, name: str, read: Callable[[], float], fresh_s: float) -> None:
        self._name = name
        self._read = read
        self._fresh_s = fresh_s
        self._lock = threading.Lock()
        self._newest: Future[float] | None = None
        self._read_at_s = 0.0
        self._logged = ""

    def value(self) -> float:
        """The newest number; NaN if it is unknown or does not arrive soon."""
        with self._lock:
            now_s = time.monotonic()
            if self._newest is None or (self._newest.done() and now_s - self._read_at_s >= self._fresh_s):
                self._newest, self._read_at_s = Future(), now_s
                threading.Thread(target=self._fill, args=(self._newest,), daemon=True).start()
            newest = self._newest
        try:
            return newest.result(_SCRAPE_WAITS_S)
        except TimeoutError:
            return math.nan

    def _fill(self, newest: Future[float]) -> None:
        number, failure = math.nan, ""
        try:
            number = float(self._read())
        except Exception as error:  # any error: the other metrics are still scraped
            failure = f"{type(error).__name__}: {error}"
            if failure != self._logged:
                log.warning("%s is unknown: %s", self._name, failure)
        self._logged = failure
        newest.set_result(number)


class _OpenBreakers(Collector):
    """A gauge by variant, without the variants that are gone."""

    def __init__(self, open_breakers: Callable[[], Mapping[str, bool]]) -> None:
        self._open_breakers = open_breakers

    def collect(self) -> Iterator[Metric]:
        gauge = GaugeMetricFamily(
            "immr_breaker_open", "1 while the variant's circuit breaker is open", labels=["variant"]
        )
        for variant, is_open in self._open_breakers().items():
            gauge.add_metric([variant], is_open)
        yield gauge


class _Counted:
    """ASGI middleware: counts requests by the route's template, so that labels stay few."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        is_search = scope["method"] == "POST" and scope["path"] == "/v1/search"
        if is_search:
            self._metrics.searches_in_progress.inc()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            if is_search:
                self._metrics.searches_in_progress.dec()
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.requests.labels(route, str(status)).inc()
            if status >= 400:
                self._metrics.errors.labels(f"http_{status}").inc()
