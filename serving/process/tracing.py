"""OpenTelemetry traces, off unless the environment asks for them: `OTEL_TRACES_EXPORTER=otlp`, `console` …

OpenTelemetry's own variables configure the rest (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER` …). A
search is one trace through gateway and Bento, because the gateway forwards `traceparent`.
"""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware

from immr.errors import SettingsError

EXPORTER = "OTEL_TRACES_EXPORTER"
_NOT_TRACED = "health,metrics"


def trace(app: FastAPI, service: str) -> None:
    """Adds a span for each request, if traces are on.

    Raises:
        SettingsError: no exporter of that name is installed.
    """
    if not is_on():
        return
    from opentelemetry import trace as api
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = api.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider(resource=Resource.create({"service.name": service}))
        api.set_tracer_provider(provider)
    provider.add_span_processor(BatchSpanProcessor(_exporter()))
    # outermost, so that errors are traced too
    app.user_middleware.insert(
        0,
        Middleware(
            OpenTelemetryMiddleware,
            tracer_provider=provider,
            excluded_urls=_excluded(),
            exclude_spans=["send", "receive"],
        ),
    )


def of_client() -> list[Any] | None:
    """The trace configuration of an aiohttp client, which adds spans and forwards the trace; None if off."""
    if not is_on():
        return None
    from opentelemetry.instrumentation.aiohttp_client import create_trace_config

    return [create_trace_config()]


def note(**attributes: str | float | bool) -> None:
    """Adds attributes to the current request's span, if there is one."""
    if is_on():
        from opentelemetry import trace as api

        api.get_current_span().set_attributes({f"immr.{name}": value for name, value in attributes.items()})


def is_on() -> bool:
    """Whether the environment asks for traces."""
    return os.environ.get(EXPORTER, "none") not in ("", "none")


def _exporter() -> Any:
    """Creates the exporter by its entry point, as OpenTelemetry's own set-up does."""
    kind = os.environ[EXPORTER]
    found = entry_points(group="opentelemetry_traces_exporter", name=kind)
    if not found:
        raise SettingsError(
            f"{EXPORTER}={kind}: no such exporter is installed. Use `console`, or install "
            "opentelemetry-exporter-otlp-proto-http for `otlp`."
        )
    return next(iter(found)).load()()


def _excluded() -> Any:
    from opentelemetry.util.http import parse_excluded_urls

    return parse_excluded_urls(_NOT_TRACED)
