"""A stand-in for a Qdrant server: the HTTP requests that IMMR makes, answered by qdrant-client's local mode.

It runs in a separate process. With `IMMR_TEST_QDRANT_URL`, the contract tests use a real server instead.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from qdrant_client import QdrantClient, models

from tests.support.upstream_process import free_port, process_on


@contextmanager
def serving(index: Path, collection: str, port: int) -> Iterator[str]:
    """Serve a collection that was built in local mode below `index`."""
    command = [sys.executable, "-m", "tests.support.qdrant_process", str(port)]
    with process_on(port, *command, "--index", str(index), "--collection", collection) as url:
        yield url


@contextmanager
def empty(api_key: str = "") -> Iterator[str]:
    """Serve an empty database, to callers with this key."""
    port = free_port()
    with process_on(
        port, sys.executable, "-m", "tests.support.qdrant_process", str(port), "--api-key", api_key
    ) as url:
        yield url


def create_app(client: QdrantClient, names: Mapping[str, str], api_key: str = "") -> FastAPI:
    """Answer from a client's collections; `names` maps further names to them."""
    app = FastAPI()

    def answer(result: Any) -> dict[str, Any]:
        return {"result": result, "status": "ok", "time": 0.0}

    def named(name: str) -> str:
        aliases = {alias.alias_name: alias.collection_name for alias in client.get_aliases().aliases}
        return names.get(name, aliases.get(name, name))

    @app.middleware("http")
    async def authorized(request: Request, call_next: Any) -> Response:
        if api_key and request.headers.get("api-key") != api_key:
            return Response("Must provide an API key or an Authorization bearer token", 401)
        response: Response = await call_next(request)
        return response

    @app.exception_handler(ValueError)
    async def refused(_: Request, error: ValueError) -> Response:
        return JSONResponse({"status": {"error": str(error)}}, 404)

    @app.get("/aliases")
    async def aliases() -> dict[str, Any]:
        return answer(client.get_aliases().model_dump(mode="json"))

    @app.post("/collections/aliases")
    async def move(body: models.ChangeAliasesOperation) -> dict[str, Any]:
        return answer(client.update_collection_aliases(body.actions))

    @app.get("/collections")
    async def listed() -> dict[str, Any]:
        return answer(client.get_collections().model_dump(mode="json"))

    @app.get("/collections/{name}/exists")
    async def exists(name: str) -> dict[str, Any]:
        return answer({"exists": client.collection_exists(named(name))})

    @app.get("/collections/{name}")
    async def described(name: str) -> dict[str, Any]:
        return answer(client.get_collection(named(name)).model_dump(mode="json"))

    @app.put("/collections/{name}")
    async def create(name: str, body: models.CreateCollection) -> dict[str, Any]:
        return answer(
            client.create_collection(
                name, vectors_config=body.vectors, sparse_vectors_config=body.sparse_vectors
            )
        )

    @app.patch("/collections/{name}")
    async def update(name: str, body: models.UpdateCollection) -> dict[str, Any]:
        return answer(client.update_collection(name, metadata=body.metadata))

    @app.delete("/collections/{name}")
    async def delete(name: str) -> dict[str, Any]:
        return answer(client.delete_collection(name))

    def done() -> dict[str, Any]:
        return answer({"operation_id": 0, "status": "completed"})

    @app.put("/collections/{_}/index")
    async def index_payload(_: str) -> dict[str, Any]:
        return done()

    @app.put("/collections/{name}/points")
    async def upsert(name: str, body: models.PointsList) -> dict[str, Any]:
        client.upsert(named(name), body.points)
        return done()

    @app.post("/collections/{name}/points/delete")
    async def remove(name: str, body: models.PointIdsList) -> dict[str, Any]:
        client.delete(named(name), body)
        return done()

    @app.post("/collections/{name}/points")
    async def retrieve(name: str, body: models.PointRequest) -> dict[str, Any]:
        found = client.retrieve(named(name), body.ids, body.with_payload, body.with_vector or False)
        return answer([record.model_dump(mode="json") for record in found])

    @app.post("/collections/{name}/points/query/batch")
    async def query(name: str, body: models.QueryRequestBatch) -> dict[str, Any]:
        return answer([found(name, search) for search in body.searches])

    def found(name: str, body: models.QueryRequest) -> dict[str, Any]:
        vectors = client.get_collection(named(name)).config.params.vectors
        several = getattr(vectors, "multivector_config", None) is not None and body.using is None
        points = client.query_points(
            named(name),
            # a server compares one query with all vectors of a point; local mode wants a list of queries for that
            query=[body.query.nearest]
            if several and isinstance(body.query, models.NearestQuery)
            else body.query,
            using=body.using,
            query_filter=body.filter,
            limit=body.limit or 10,
            offset=body.offset,
            with_payload=bool(body.with_payload),
        )
        result: dict[str, Any] = points.model_dump(mode="json")
        return result

    @app.post("/collections/{name}/points/count")
    async def count(name: str) -> dict[str, Any]:
        return answer({"count": client.count(named(name)).count})

    @app.post("/collections/{name}/points/scroll")
    async def scroll(name: str, body: models.ScrollRequest) -> dict[str, Any]:
        records, _ = client.scroll(
            named(name), scroll_filter=body.filter, limit=body.limit or 10, order_by=body.order_by
        )
        return answer({"points": [record.model_dump(mode="json") for record in records]})

    @app.post("/collections/{name}/facet")
    async def facet(name: str, body: models.FacetRequest) -> dict[str, Any]:
        found = client.facet(named(name), body.key, body.filter, body.limit or 10, body.exact or False)
        return answer(found.model_dump(mode="json"))

    return app


def built(index: Path, collection: str) -> tuple[QdrantClient, dict[str, str]]:
    """A client on a collection built in local mode, with the names it would have on a server."""
    from immr.index.storages.folder_storage import LOCAL_MODE, FolderStorage

    folders = FolderStorage(index, LOCAL_MODE)
    content = folders.published(collection) or ""
    binding = folders.binding(content)
    assert binding is not None, f"{collection} is not below {index}"
    data = next(index.rglob("meta.json")).parent
    client = QdrantClient(path=str(data), force_disable_check_same_thread=True)
    client.update_collection(data.name, metadata=binding.as_metadata())
    alias = models.CreateAlias(collection_name=data.name, alias_name=collection)
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    return client, {content: data.name}


if __name__ == "__main__":
    import uvicorn

    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--index", type=Path)
    parser.add_argument("--collection", default="")
    parser.add_argument("--api-key", default="")
    options = parser.parse_args()
    client, names = QdrantClient(":memory:", force_disable_check_same_thread=True), {}
    if options.index:
        client, names = built(options.index, options.collection)
    served = create_app(client, names, options.api_key)
    uvicorn.run(served, host="127.0.0.1", port=options.port, log_level="warning")
