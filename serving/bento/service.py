"""What BentoML serves: the model version in the folder beside this package."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import bentoml
from starlette.types import ASGIApp, Receive, Scope, Send

from immr.packaging.version_file import VERSION_FOLDER


def shortened(app: ASGIApp, ours: ASGIApp) -> ASGIApp:
    """BentoML's application without its middleware before our API: a task and a timer of a minute per request."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        is_ours = scope["type"] == "http" and scope["path"].startswith("/v1/")
        await (ours if is_ours else app)(scope, receive, send)

    return serve


class BoundedService(bentoml.Service[Any]):  # type: ignore[misc]
    """BentoML's service, with the HTTP protocol that limits the head of a request."""

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        """Creates the application, the last step before BentoML creates uvicorn's configuration.

        BentoML has no option for uvicorn's protocol, so this replaces uvicorn's default.
        """
        from uvicorn.config import HTTP_PROTOCOLS

        from serving.process.options import ServingOptions
        from serving.wire.protocol import bounded

        HTTP_PROTOCOLS["auto"] = bounded(ServingOptions().receive_timeout_s)  # type: ignore[assignment]
        return shortened(super().to_asgi(is_main), mounted)


class Mounted:
    """ASGI: the application, created when the server starts, because an import must have no effect."""

    def __init__(self) -> None:
        self.app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        assert self.app is not None, "the server has not started"
        # BentoML passes all paths without a route of its own to the mount path "/"
        await self.app({**scope, "root_path": ""}, receive, send)


mounted = Mounted()


# One worker, because an embedded index can be opened by one process at a time.
# Metrics, access log and traces are our own.
@bentoml.asgi_app(mounted, path="/")
@bentoml.service(
    name="immr-search",
    service_class=BoundedService,
    workers=1,
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": "."},
)
class ImmrSearch:
    """Visual search by one model version."""

    @bentoml.on_startup
    async def start(self) -> None:
        """Opens the version in the background; /health/ready reports when it is ready."""
        from immr.settings import Settings
        from immr.wiring import connect
        from serving.bento.answering import VersionService
        from serving.bento.app import create_version_app
        from serving.bento.photo_urls import PhotoUrls
        from serving.process import startup

        options = startup.read_options()
        folder = Path(__file__).resolve().parents[2] / VERSION_FOLDER
        self.running = ExitStack()
        parts = self.running.enter_context(connect(Settings()))
        photo_urls = PhotoUrls() if options.image_urls else None
        self.service = VersionService(folder, parts, options.threads, options.max_in_progress, photo_urls)
        metrics, version = self.service.metrics, self.service.version
        metrics.watch(version.count, version.newest_feature)
        mounted.app = self.running.enter_context(
            startup.instrumented(
                "immr-search", metrics, options, lambda: create_version_app(self.service, options)
            )
        )
        await self.service.start()

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Finishes the searches in progress."""
        await self.service.stop()
        self.running.close()

    async def __is_ready__(self) -> bool:
        return not self.service.version.not_ready_because
