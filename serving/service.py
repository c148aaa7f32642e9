"""What runs inside a Bento: the version that lies beside this package, served by BentoML."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import bentoml
from starlette.types import ASGIApp, Receive, Scope, Send

from immr.packaging.version_file import VERSION_FOLDER


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


# one worker, because Qdrant's local mode lets one process at a time hold a collection; /metrics is our own
@bentoml.asgi_app(mounted, path="/")
@bentoml.service(
    name="immr-search", workers=1, metrics={"enabled": False}, logging={"access": {"enabled": False}}
)
class ImmrSearch:
    """Visual search by one model version."""

    @bentoml.on_startup
    async def start(self) -> None:
        """Bring the version up in the background; /health/ready tells when it is there."""
        from immr.settings import Settings
        from serving.admission import MAX_UNDER_WAY
        from serving.app import VersionService, create_version_app

        threads = int(os.environ.get("IMMR_THREADS", "1"))
        max_under_way = int(os.environ.get("IMMR_MAX_UNDER_WAY", str(MAX_UNDER_WAY)))
        folder = Path(__file__).resolve().parent.parent / VERSION_FOLDER
        _log_as_bentoml_does()
        self.service = VersionService(folder, Settings(), threads, max_under_way)
        mounted.app = create_version_app(self.service)
        await self.service.start()

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Finish what is under way."""
        await self.service.stop()

    async def __is_ready__(self) -> bool:
        return self.service.version.searcher is not None


def _log_as_bentoml_does() -> None:
    """Without this, what we log would go nowhere: BentoML gives handlers to its own loggers only."""
    for name in ("immr", "serving"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.handlers = list(logging.getLogger("bentoml").handlers)
        logger.propagate = False
