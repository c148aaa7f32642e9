"""What Prometheus reads: requests, errors, latency by stage, impressions, clicks. Never a user in a label."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime

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

    def watch(self, documents: Callable[[], int], newest_feature: Callable[[], datetime | None]) -> None:
        """Tell the size of the index and the age of the features, as they are when someone asks."""
        size = Gauge("immr_index_documents", "Documents in the index", registry=self.registry)
        size.set_function(documents)

        def age_s() -> float:
            newest = newest_feature()
            return (datetime.now(UTC) - newest).total_seconds() if newest else math.nan

        age = Gauge("immr_features_age_seconds", "Since the newest feature", registry=self.registry)
        age.set_function(age_s)

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
