"""A packaged version in a process: the Bento's application on uvicorn, without BentoML."""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from immr.wiring import connect
from tests.support.upstream_process import free_port, process_on


@contextmanager
def version_process(
    folder: Path, env: dict[str, str], max_in_progress: int = 64, port: int = 0
) -> Iterator[str]:
    """Runs it; yields its URL once it is ready."""
    from tests.support.in_process import wait_ready

    port = port or free_port()
    command = [
        sys.executable,
        "-m",
        "tests.support.version_process",
        str(folder),
        str(port),
        str(max_in_progress),
    ]
    with process_on(port, *command, env=env) as url:
        wait_ready(url)
        yield url


def serve(folder: Path, port: int, max_in_progress: int) -> None:
    import uvicorn
    from fastapi import FastAPI

    from immr.settings import Settings
    from serving.bento.answering import VersionService
    from serving.bento.app import create_version_app
    from serving.process.options import ServingOptions

    service = VersionService(folder, connect(Settings()), max_in_progress=max_in_progress)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    options = ServingOptions()
    app = create_version_app(service, options, lifespan)
    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False, log_level="warning")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("max_in_progress", type=int)
    options = parser.parse_args()
    serve(options.folder, options.port, options.max_in_progress)
