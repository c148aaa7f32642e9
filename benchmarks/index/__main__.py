"""Speed and recall of the vector index: Qdrant Edge as IMMR builds it, compared with two exact searches.

    python -m benchmarks.index --points 100000 --points 1000000 --json index.json

- edge: IMMR's default index, with HNSW and payload indexes; `build_…_cpu_s` splits its build into phases
- numpy: one matrix product and a partial sort over all vectors, the minimal cost of exact search
- local: qdrant-client's local mode, in memory (up to `--local-up-to` points, beyond which it takes seconds)

Vectors are clustered like the embeddings of a catalogue: 100 points around each centre, and queries drawn
around the same centres; `--uniform` draws unit vectors without clusters, the hardest case for a graph. Recall
is measured against exact search. The filter keeps one category of 20, spread over all clusters. Queries run
one at a time, twice: the first pass, which reads from disk, is reported as `first_`. `narrow_` is the filtered
search without the larger width that IMMR uses for filters; it only differs above 10 MB of filtered vectors.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.figures import JsonFile, write_figures
from immr.index.build import fill, verify
from immr.index.collection_names import collection_name, content_name
from immr.index.documents import Documents, payload, point_id
from immr.index.engines.client import ClientEngine
from immr.index.engines.edge import EdgeEngine
from immr.index.qdrant import IDLE_TIMEOUT_S, QdrantIndex
from immr.index.recall import recall_at_k
from immr.index.storages.folder_storage import EDGE, EDGE_INT8, EmbeddedEngine, FolderStorage
from immr.types import Filters, FloatArray, Item, ModelVersion

K = 10
CATEGORIES = 20
POINTS_PER_CLUSTER = 100
NOISE = 0.5
"""Standard deviation of a point around its centre, per dimension; that of the centres is 1."""

Search = Callable[[FloatArray, bool], list[int]]
"""Rows of the K nearest documents; the flag restricts the search to category 0."""


def main(
    points: Annotated[list[int], typer.Option(help="number of documents")] = [100_000, 1_000_000],  # noqa: B006
    dim: int = 128,
    queries: Annotated[int, typer.Option(help="per measurement")] = 500,
    local_up_to: Annotated[int, typer.Option(help="most documents for local mode")] = 100_000,
    uniform: Annotated[bool, typer.Option(help="without clusters")] = False,
    int8: Annotated[bool, typer.Option(help="with int8 quantization")] = False,
    json_file: JsonFile = None,
) -> None:
    """Measure, print a table, and write the figures."""
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for size in points:
        data = Data.of(size, dim, queries, uniform)
        figures[str(size)] = {"edge": edge(data, int8), "numpy": measure(data, exact(data))}
        if size <= local_up_to:
            with local(data) as search:
                figures[str(size)]["local"] = measure(data, search, at_most=50)
    show(figures)
    by_size = {size: {**kinds["edge"], "peers": kinds} for size, kinds in figures.items()}
    write_figures(json_file, by_size)


@dataclass(frozen=True)
class Data:
    """Documents and queries, unit rows."""

    documents_ND: FloatArray
    queries_QD: FloatArray

    @classmethod
    def of(cls, size: int, dim: int, queries: int, uniform: bool) -> Data:
        generator = np.random.default_rng(0)
        clusters = max(1, size // POINTS_PER_CLUSTER)
        centres_CD = generator.normal(size=(clusters, dim)).astype(np.float32) * (not uniform)
        return cls(
            _around(generator, centres_CD, size),
            _around(generator, centres_CD, queries),
        )

    def items(self) -> list[Item]:
        """One item per document, with the categories in turn."""
        when = datetime(2025, 1, 1, tzinfo=UTC)
        return [
            Item(str(row), f"item {row}", "", category(row), f"{row}.jpg", float(row % 500), when)
            for row in range(len(self.documents_ND))
        ]


def category(row: int) -> str:
    return f"Shop/{row % CATEGORIES}"


def edge(data: Data, int8: bool) -> dict[str, float]:
    dim = data.documents_ND.shape[1]
    version = ModelVersion("bench", 1, "key", "run", dim, "prep", "manifest", "none")
    with tempfile.TemporaryDirectory(prefix="immr-index-") as folder:
        phases = build(Path(folder), EDGE_INT8 if int8 else EDGE, version, data)
        index = QdrantIndex(f"edge://{folder}" + "?quantization=int8" * int8)
        with closing(index.open(version.id, dim, "prep")) as collection:
            hnsw_ef = collection.binding.hnsw_ef

            def search(query_D: FloatArray, filtered: bool) -> list[int]:
                filters = Filters(category(0)) if filtered else Filters()
                return [int(found.item_id) for found in collection.search(query_D, K, filters)]

            figures = {
                **phases,
                "hnsw_ef": hnsw_ef,
                "disk_mb": sum(file.stat().st_size for file in Path(folder).rglob("*")) / 1e6,
                **measure(data, search),
            }
        [shard] = Path(folder).rglob("edge_config.json")
        with closing(EdgeEngine(shard.parent)) as engine:
            filters = Filters(category(0))

            def narrow(query_D: FloatArray) -> list[int]:
                [found] = engine.nearest(query_D, [filters], K, hnsw_ef)
                return [int(each.payload["item_id"]) for each in found]

            return figures | _measured(data, narrow, "narrow_", filtered=True)


PHASES = ("build_prepare_cpu_s", "build_insert_cpu_s", "build_graph_cpu_s", "build_verify_cpu_s")


def build(root: Path, kind: EmbeddedEngine, version: ModelVersion, data: Data) -> dict[str, float]:
    """Build and publish a collection with the steps of `QdrantIndex.build`; returns how long each took.

    Returns:
        Wall time as `build_s`, and the processor time of each of `PHASES`.
    """
    items, start, cpu_s = data.items(), time.perf_counter(), [time.process_time()]
    documents = Documents.of(version, items, data.documents_ND, 0)
    cpu_s.append(time.process_time())
    storage, collection = FolderStorage(root, kind), collection_name(version.id)
    content = content_name(collection, documents.binding.content_hash, storage.suffix)
    with closing(storage.engine(content)) as engine:
        engine.create(documents.binding.dim, documents.binding.attributes)
        fill(engine, documents)
        cpu_s.append(time.process_time())
        engine.settle(IDLE_TIMEOUT_S)
        cpu_s.append(time.process_time())
        storage.bind(content, verify(engine, content, documents))
        cpu_s.append(time.process_time())
    storage.publish(collection, content)
    phases = zip(PHASES, np.diff(cpu_s).tolist(), strict=True)
    return {"build_s": time.perf_counter() - start, **dict(phases)}


def exact(data: Data) -> Search:
    in_category = np.arange(0, len(data.documents_ND), CATEGORIES)
    filtered_ND = data.documents_ND[in_category]

    def search(query_D: FloatArray, filtered: bool) -> list[int]:
        similarities_N = (filtered_ND if filtered else data.documents_ND) @ query_D
        best = np.argpartition(-similarities_N, K)[:K]
        return list(in_category[best] if filtered else best)

    return search


@contextmanager
def local(data: Data) -> Iterator[Search]:
    from qdrant_client import QdrantClient

    with closing(ClientEngine(QdrantClient(":memory:"), "documents", is_local=True)) as engine:
        engine.create(data.documents_ND.shape[1], {})
        items = data.items()
        for start in range(0, len(items), 1000):
            some = items[start : start + 1000]
            rows_N1D = data.documents_ND[start : start + 1000, None]
            engine.put([point_id(item.item_id) for item in some], rows_N1D, [payload(item) for item in some])

        def search(query_D: FloatArray, filtered: bool) -> list[int]:
            filters = Filters(category(0)) if filtered else Filters()
            [points] = engine.nearest(query_D, [filters], K, 0)
            return [int(found.payload["item_id"]) for found in points]

        yield search


def measure(data: Data, search: Search, at_most: int | None = None) -> dict[str, float]:
    """Latency and recall, without and with the filter."""
    return {
        **_measured(data, lambda query_D: search(query_D, False), "", False, at_most),
        **_measured(data, lambda query_D: search(query_D, True), "filtered_", True, at_most),
    }


def _measured(
    data: Data,
    search: Callable[[FloatArray], list[int]],
    prefix: str,
    filtered: bool,
    at_most: int | None = None,
) -> dict[str, float]:
    queries_QD = data.queries_QD[:at_most]
    _, first_ms = _timed(queries_QD, search)
    found, took_ms = _timed(queries_QD, search)
    documents_ND = data.documents_ND[::CATEGORIES] if filtered else data.documents_ND
    rows = [[row // CATEGORIES if filtered else row for row in each] for each in found]
    return {
        f"{prefix}recall_at_10": recall_at_k(rows, queries_QD, documents_ND, K),
        f"{prefix}p50_ms": float(np.percentile(took_ms, 50)),
        f"{prefix}p99_ms": float(np.percentile(took_ms, 99)),
        f"{prefix}first_p50_ms": float(np.percentile(first_ms, 50)),
        f"{prefix}first_p99_ms": float(np.percentile(first_ms, 99)),
    }


def show(figures: dict[str, dict[str, dict[str, float]]]) -> None:
    columns = ("build_s", "recall_at_10", "p50_ms", "p99_ms", "first_p99_ms")
    filtered = ("filtered_recall_at_10", "filtered_p50_ms", "filtered_p99_ms")
    narrow = ("narrow_recall_at_10", "narrow_p50_ms")
    columns += filtered + narrow
    for size, kinds in figures.items():
        phases = ", ".join(f"{name} {kinds['edge'][name]:.1f}" for name in PHASES)
        print(f"{int(size):,} points: {phases}")
    table = Table("points", "index", *columns)
    for size, kinds in figures.items():
        for kind, values in kinds.items():
            cells = [f"{values[name]:.3f}" if name in values else "" for name in columns]
            table.add_row(f"{int(size):,}", kind, *cells)
    Console(width=200).print(table)


def _around(generator: np.random.Generator, centres_CD: FloatArray, rows: int) -> FloatArray:
    points_ND = centres_CD[generator.integers(0, len(centres_CD), rows)]
    points_ND = points_ND + NOISE * generator.normal(size=points_ND.shape).astype(np.float32)
    points_ND /= np.linalg.norm(points_ND, axis=1, keepdims=True)
    return points_ND


def _timed(
    queries_QD: FloatArray, search: Callable[[FloatArray], Sequence[int]]
) -> tuple[list[Sequence[int]], list[float]]:
    found, took_ms = [], []
    for query_D in queries_QD:
        start = time.perf_counter()
        found.append(search(query_D))
        took_ms.append(1000 * (time.perf_counter() - start))
    return found, took_ms


if __name__ == "__main__":
    typer.run(main)
