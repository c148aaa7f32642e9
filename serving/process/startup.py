"""How every serving process starts: options, logs, metrics, traces, and the routes that all of them have."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.types import Scope

from serving.process import logs, tracing
from serving.process.api_docs import add_api_docs
from serving.process.metrics import Metrics
from serving.process.options import ServingOptions
from serving.wire.admission import Admission, ArrivingBodies
from serving.wire.application import create_app
from serving.wire.bearer import document_keys
from serving.wire.methods import HeadAndOptions
from serving.wire.routes import add_events, add_liveness
from serving.wire.schemas import EventsAnswer, EventsBody


def read_options() -> ServingOptions:
    """Reads the options and configures logging.

    Raises:
        SettingsError: a variable has an invalid value.
    """
    options = ServingOptions()
    logs.configure(options.log_format)
    return options


@contextmanager
def instrumented(
    name: str, metrics: Metrics, options: ServingOptions, create: Callable[[], FastAPI]
) -> Iterator[FastAPI]:
    """Creates an application with the metrics server and the traces that the options ask for.

    Args:
        name: Of the service, in traces.
        metrics: Served on a port of their own if the options name one, until the block ends.
        options: How the process behaves.
        create: Creates the application.

    Raises:
        SettingsError: an option is invalid, or a trace exporter is not installed.
        OSError: the metrics port is taken.
    """
    stop = metrics.serve(options.metrics_host, options.metrics_port) if options.metrics_port else None
    try:
        app = create()
        tracing.trace(app, name)
        yield app
    finally:
        if stop is not None:
            stop()


def create_service_app(
    title: str,
    description: str,
    *,
    options: ServingOptions,
    metrics: Metrics,
    record_events: Callable[[EventsBody], Awaitable[EventsAnswer]],
    bounds: Mapping[Callable[[Scope], bool], int],
    lifespan: Any = None,
) -> FastAPI:
    """Creates an application with metrics, events and liveness, behind admission control and keys.

    Args:
        title: For the OpenAPI document.
        description: For the OpenAPI document.
        options: How the process behaves.
        metrics: Count every request.
        record_events: Handles clicks and orders.
        bounds: How many of the requests that each predicate selects may be in progress.
        lifespan: What starts and stops with the application.
    """
    arriving = ArrivingBodies()
    app = create_app(
        title,
        description,
        inner=[
            Middleware(HeadAndOptions),
            *(
                Middleware(Admission, applies_to, most, options.receive_timeout_s, arriving)
                for applies_to, most in bounds.items()
            ),
        ],
        protection=options.protection(),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    metrics.attach(app)
    add_api_docs(app)
    add_events(app, record_events)
    add_liveness(app)
    if options.bearer_keys_file is not None:
        document_keys(app)
    return app
