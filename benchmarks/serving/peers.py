"""What `benchmarks.serving` is measured against; each a process of its own, on the same version and index.

`fastapi`: the version's encoder and query tower in eager torch, behind FastAPI's thread pool, with
qdrant-client in local mode and the Feast SDK asked once per request: as one
writes it first.
`onnxruntime`: the limit, the version's fp32 graph on ready tensors, all cores, nothing around it.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from fastapi import FastAPI, Form, UploadFile

from immr.features.definitions import FEATURES, VIEW
from immr.model.model_card import QUERY_ENCODER, Card, tuned_weights

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

_DOCUMENTS, _MOST = "documents", 100_000

app = typer.Typer()


@app.command()
def onnxruntime(folder: Path, seconds: float = 5.0) -> None:
    """Print encodings per second: of one session on all cores or of one thread per core, the better."""
    cores = os.cpu_count() or 1
    print(max(_encodings_per_s(folder, cores, 1, seconds), _encodings_per_s(folder, 1, cores, seconds)))


def _encodings_per_s(folder: Path, session_threads: int, callers: int, seconds: float) -> float:
    side = Card.read(folder).preprocessing.image_size_px
    pixels_B3SS = np.random.default_rng(0).uniform(-1, 1, (1, 3, side, side)).astype(np.float32)
    run = _session(folder / QUERY_ENCODER, session_threads).run
    run(None, {"pixels": pixels_B3SS})
    start = time.perf_counter()

    def count(_: int) -> int:
        runs = 0
        while time.perf_counter() < start + seconds:
            run(None, {"pixels": pixels_B3SS})
            runs += 1
        return runs

    with ThreadPoolExecutor(callers) as pool:
        return sum(pool.map(count, range(callers))) / (time.perf_counter() - start)


def _session(graph: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


@app.command()
def fastapi(
    folder: Path,
    collection: Annotated[Path, typer.Argument(help="the shard of the version's collection")],
    features: Annotated[Path, typer.Argument(help="the Feast repository")],
    port: int,
) -> None:
    """Serve `/v1/search` as one writes it first."""
    import io

    import torch
    import uvicorn
    from feast import FeatureStore
    from PIL import Image

    from immr.model.encoders.by_name import load_image_encoder
    from immr.model.towers import Towers

    torch.set_num_threads(1)  # its pool of threads gives the parallelism; more threads fight
    card = Card.read(folder)
    weights = tuned_weights(folder)
    encoder = load_image_encoder(card.model.image_encoder, card.model.image_size_px, weights)
    tower = Towers.read(card.model, folder / "towers.pt").query
    client = _in_local_mode(collection)
    store = FeatureStore(repo_path=str(features))
    one_at_a_time = threading.Lock()  # Feast's SQLite store has one connection
    server = FastAPI()

    @server.get("/health/ready")
    def ready() -> dict[str, bool]:
        return {"ready": True}

    @server.post("/v1/search")
    def search(image: UploadFile, k: Annotated[int, Form()] = 10) -> dict[str, Any]:
        picture = Image.open(io.BytesIO(image.file.read())).convert("RGB")
        pixels_B3SS = torch.from_numpy(card.preprocessing.apply(picture))[None]
        with torch.inference_mode():
            embedding_D = tower(encoder(pixels_B3SS)[0])[0]
        points = client.query_points(_DOCUMENTS, query=embedding_D.tolist(), limit=3 * k).points
        item_ids = [point.payload["item_id"] for point in points if point.payload]
        wanted = [f"{VIEW}:{name}" for name in FEATURES]
        with one_at_a_time:
            known = store.get_online_features(wanted, {"item_id": item_ids}).to_dict()
        rows = zip(points, known["price"], known["ctr_7d"], strict=True)
        hits = [
            {**(point.payload or {}), "score": point.score + 0.05 * (ctr or 0), "price": price}
            for point, price, ctr in rows
        ]
        return {"hits": sorted(hits, key=lambda hit: -hit["score"])[:k]}

    uvicorn.run(server, host="127.0.0.1", port=port, log_level="warning", access_log=False)


def _in_local_mode(shard: Path) -> QdrantClient:
    """The documents of a Qdrant Edge shard in qdrant-client's local mode, in memory."""
    import qdrant_edge
    from qdrant_client import QdrantClient
    from qdrant_client.models import Distance, PointStruct, VectorParams

    edge = qdrant_edge.EdgeShard.load(str(shard))
    records, _ = edge.scroll(qdrant_edge.ScrollRequest(limit=_MOST, with_payload=True, with_vector=True))
    edge.close()
    vectors: list[Any] = [each.vector[""] for each in records if isinstance(each.vector, dict)]
    points = [
        PointStruct(id=str(each.id), vector=vector, payload=each.payload)
        for each, vector in zip(records, vectors, strict=True)
    ]
    client = QdrantClient(":memory:")
    size = len(vectors[0])
    client.create_collection(_DOCUMENTS, VectorParams(size=size, distance=Distance.COSINE))
    client.upsert(_DOCUMENTS, points)
    return client


if __name__ == "__main__":
    app()
