"""What runs inside a Bento: the version that lies beside this package, served by BentoML."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import bentoml
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import HTTP_PROTOCOLS

from immr.packaging.version_file import VERSION_FOLDER
from serving.process.options import ServingOptions
from serving.wire.protocol import bounded

# BentoML makes uvicorn's configuration once it has imported this file, and has no setting for the protocol
HTTP_PROTOCOLS["auto"] = bounded(ServingOptions().receive_timeout_s)  # type: ignore[assignment]


class Mounted:
    """ASGI: the application, made when the server starts, because importing must have no effect."""

    def __init__(self) -> None:
        self.app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        assert self.app is not None, "the server has not started yet"
        # BentoML routes all that it does not know to us under the mount path "/"
        await self.app({**scope, "root_path": ""}, receive, send)


mounted = Mounted()


# one worker, because Qdrant's local mode lets one process at a time hold a collection; metrics, log and
# traces are our own
@bentoml.asgi_app(mounted, path="/")
@bentoml.service(
    name="immr-search",
    workers=1,
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": "."},
)
class ImmrSearch:
    """Visual search by one model version."""

    @bentoml.on_startup
    async def start(self) -> None:
        """Bring the version up in the background; /health/ready tells when it is there."""
        from immr.settings import Settings
        from serving.bento.app import VersionService, create_version_app
        from serving.process import logs, tracing

        options = ServingOptions()
        logs.configure(options.log_format)
        folder = Path(__file__).resolve().parents[2] / VERSION_FOLDER
        self.service = VersionService(folder, Settings(), options.threads, options.max_under_way)
        version = self.service.version
        self.service.metrics.watch(version.count, version.newest_feature)
        self.stop_metrics: Callable[[], None] | None = None
        if options.metrics_port:
            self.stop_metrics = self.service.metrics.serve(options.metrics_host, options.metrics_port)
        app = create_version_app(self.service, options.receive_timeout_s, protection=options.protection())
        tracing.trace(app, "immr-search")
        mounted.app = app
        await self.service.start()

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Finish what is under way."""
        await self.service.stop()
        if self.stop_metrics is not None:
            self.stop_metrics()

    async def __is_ready__(self) -> bool:
        return self.service.version.searcher is not None
