"""A stand-in for a Qdrant server that can be killed: one collection over HTTP, as a process of its own.

It answers what a search asks of a server, by qdrant-client's own models from its own local mode. Where a real
server is at hand the contract tests ask that one (`IMMR_TEST_QDRANT_URL`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from qdrant_client import QdrantClient, models

from tests.upstream_process import process_on


@contextmanager
def serving(index: Path, collection: str, port: int) -> Iterator[str]:
    """Serve a collection that was built in local mode below `index`."""
    command = [sys.executable, "-m", "tests.qdrant_process", str(index), collection, str(port)]
    with process_on(port, *command) as url:
        yield url


def serve(index: Path, collection: str, port: int) -> None:
    import uvicorn

    from immr.index.client import open_local
    from immr.index.folders import Folders

    folders = Folders(index, open_local)
    content = folders.published(collection) or ""
    binding = folders.binding(content)
    assert binding is not None, f"{collection} is not below {index}"
    data = next(index.rglob("meta.json")).parent
    client, name = QdrantClient(path=str(data), force_disable_check_same_thread=True), data.name
    app = FastAPI()

    def answer(result: Any) -> dict[str, Any]:
        return {"result": result, "status": "ok", "time": 0.0}

    @app.get("/aliases")
    async def aliases() -> dict[str, Any]:
        return answer({"aliases": [{"alias_name": collection, "collection_name": content}]})

    @app.get("/collections/{_}/exists")
    async def exists(_: str) -> dict[str, Any]:
        return answer({"exists": True})

    @app.get("/collections/{_}")
    async def described(_: str) -> dict[str, Any]:
        found = client.get_collection(name).model_dump(mode="json")
        return answer(found | {"config": found["config"] | {"metadata": binding.as_metadata()}})

    @app.post("/collections/{_}/points/query")
    async def query(_: str, asked: models.QueryRequest) -> dict[str, Any]:
        found = client.query_points(
            name,
            query=asked.query,
            query_filter=asked.filter,
            limit=asked.limit or 10,
            offset=asked.offset,
            with_payload=True,
        )
        return answer(found.model_dump(mode="json"))

    @app.post("/collections/{_}/points/count")
    async def count(_: str) -> dict[str, Any]:
        return answer({"count": client.count(name).count})

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("index", type=Path)
    parser.add_argument("collection")
    parser.add_argument("port", type=int)
    options = parser.parse_args()
    serve(options.index, options.collection, options.port)
