"""What Prometheus reads: requests, errors, latency by stage, impressions, clicks. Never a user in a label."""

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
_SCRAPE_WAITS_S = 0.5  # for one figure: Prometheus gives up on all of them after ten seconds
_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """One process's figures, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "immr_requests_total", "HTTP requests", ["route", "status"], registry=self.registry
        )
        self.errors = Counter("immr_errors_total", "What went wrong", ["kind"], registry=self.registry)
        self.stage_s = Histogram(
            "immr_stage_seconds", "Time in each stage", ["stage"], buckets=_BUCKETS_S, registry=self.registry
        )
        self.batch_size = Histogram(
            "immr_batch_size",
            "Pictures in one request to the encoder",
            buckets=(1, 2, 4, 8, 16),
            registry=self.registry,
        )
        self.impressions = Counter(
            "immr_impressions_total", "Items shown", ["variant", "model_version"], registry=self.registry
        )
        self.events = Counter(
            "immr_events_total",
            "Clicks and orders",
            ["type", "variant", "model_version"],
            registry=self.registry,
        )
        self.degraded = Counter(
            "immr_degraded_total", "Answers that did without a part", ["part"], registry=self.registry
        )
        self.events_waiting_bytes = Gauge(
            "immr_events_waiting_bytes", "Events on disk that the log has yet to take", registry=self.registry
        )
        self.experiment_wrong = Gauge(
            "immr_experiment_file_wrong",
            "1 while the experiment file is wrong and the one before is in force",
            registry=self.registry,
        )
        self.shadow = Counter(
            "immr_shadow_total", "Copies of searches for the challenger", ["outcome"], registry=self.registry
        )
        self.shadow_overlap = Histogram(
            "immr_shadow_overlap",
            "Share of hits that champion and challenger have in common",
            buckets=[number / 10 for number in range(11)],
            registry=self.registry,
        )
        self._on_own_port = False

    def watch(
        self,
        documents: Callable[[], int],
        newest_feature: Callable[[], datetime | None],
        fresh_s: float = FRESH_S,
    ) -> None:
        """Tell the size of the index and the age of the features, as they were in the last `fresh_s`.

        Where they cannot be told, or not soon, they are NaN; the other figures are there all the same.
        """

        def made_at() -> float:
            newest = newest_feature()
            return newest.timestamp() if newest else math.nan

        size, made_at_s = _Aside(documents, fresh_s), _Aside(made_at, fresh_s)
        documents_gauge = Gauge("immr_index_documents", "Documents in the index", registry=self.registry)
        documents_gauge.set_function(size.value)
        age = Gauge("immr_features_age_seconds", "Since the newest feature", registry=self.registry)
        age.set_function(lambda: time.time() - made_at_s.value())

    def watch_variants(self, left_alone: Callable[[], Mapping[str, bool]]) -> None:
        """Tell of each variant that there is whether it is left alone, when someone asks."""
        self.registry.register(_LeftAlone(left_alone))

    def serve(self, host: str, port: int) -> Callable[[], None]:
        """Serve them on a port of their own instead of beside the API; call what comes back to stop.

        Raises:
            OSError: the port is taken.
        """
        server, thread = start_http_server(port, host, self.registry)
        self._on_own_port = True

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop

    def observe(self, stage_ms: Mapping[str, float]) -> None:
        """Add the stages of one request."""
        for stage, took_ms in stage_ms.items():
            self.stage_s.labels(stage).observe(took_ms / 1000)

    def attach(self, app: FastAPI) -> None:
        """Count the application's requests, and serve /metrics where it has no port of its own."""
        app.add_middleware(_Counted, metrics=self)
        if self._on_own_port:
            return

        @app.get("/metrics", summary="Figures for Prometheus", response_class=Response)
        def metrics() -> Response:
            return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)


class _Aside:
    """A figure that someone else has to tell, who may be away: asked in a thread, one at a time."""

    def __init__(self, ask: Callable[[], float], fresh_s: float) -> None:
        self._ask = ask
        self._fresh_s = fresh_s
        self._lock = threading.Lock()
        self._answer: Future[float] | None = None
        self._asked_at_s = 0.0
        self._said = ""

    def value(self) -> float:
        """What was told last; NaN where that is nothing, or does not come soon."""
        with self._lock:
            now_s = time.monotonic()
            if self._answer is None or (self._answer.done() and now_s - self._asked_at_s >= self._fresh_s):
                self._answer, self._asked_at_s = Future(), now_s
                threading.Thread(target=self._fill, args=(self._answer,), daemon=True).start()
            answer = self._answer
        try:
            return answer.result(_SCRAPE_WAITS_S)
        except TimeoutError:
            return math.nan

    def _fill(self, answer: Future[float]) -> None:
        told, said = math.nan, ""
        try:
            told = float(self._ask())
        except Exception as error:  # whatever it is, a scrape goes on without this figure
            said = f"{type(error).__name__}: {error}"
            if said != self._said:
                log.warning("a figure cannot be told: %s", said)
        self._said = said
        answer.set_result(told)


class _LeftAlone(Collector):
    """A gauge whose variants come and go: one that is gone is told of no more."""

    def __init__(self, left_alone: Callable[[], Mapping[str, bool]]) -> None:
        self._left_alone = left_alone

    def collect(self) -> Iterator[Metric]:
        gauge = GaugeMetricFamily("immr_breaker_open", "1 while a variant is left alone", labels=["variant"])
        for variant, is_open in self._left_alone().items():
            gauge.add_metric([variant], is_open)
        yield gauge


class _Counted:
    """ASGI: counts by the route's template, so that labels stay few whatever is asked."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.requests.labels(route, str(status)).inc()
            if status >= 400:
                self._metrics.errors.labels(f"http_{status}").inc()
