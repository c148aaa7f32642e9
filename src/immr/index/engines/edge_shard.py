"""Creates and loads the shards of Qdrant Edge, if the disk has room."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from immr.errors import IndexUnavailableError
from immr.index.bm25 import WORDS
from immr.machine import cores
from immr.machine.capacity import free_disk

if TYPE_CHECKING:
    import qdrant_edge

CONFIG = "edge_config.json"
_M = 16
_EF_CONSTRUCT = 128
_EXACT_BELOW_KB = 10_000  # smaller segments and smaller filtered sets are searched exactly
_FOR_ONE_THREAD = 20_000
"""Documents that one thread searches in about a millisecond. With several threads, each request to the shard takes
0.2 ms more CPU time, because the idle ones look for work."""
_ROOM = {"create": 64 * 2**20, "change": 16 * 2**20}
"""Bytes that must be free. Qdrant Edge maps sparse files: on a full disk, writing ends the process with SIGBUS.

A new shard takes 8 MB, and up to 47 MB more when it is loaded for the first time; a change takes its size twice.
"""


def new_config(dim: int, several_pictures: bool, quantized: bool) -> qdrant_edge.EdgeConfig:
    """The configuration of a new shard; see `Engine.create`.

    Args:
        dim: Of an embedding.
        several_pictures: Whether points have several embeddings.
        quantized: Whether it has int8 vectors beside the original ones.
    """
    import qdrant_edge as edge

    int8 = edge.ScalarQuantizationConfig(type=edge.ScalarType.Int8, quantile=0.99, memory=edge.Memory.Pinned)
    return edge.EdgeConfig(
        vectors=_vector_params(dim, several_pictures),
        sparse_vectors={WORDS: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)},
        hnsw_config=edge.HnswIndexConfig(
            m=_M, ef_construct=_EF_CONSTRUCT, full_scan_threshold=_EXACT_BELOW_KB
        ),
        optimizers=edge.EdgeOptimizersConfig(indexing_threshold=_EXACT_BELOW_KB, default_segment_number=1),
        quantization_config=int8 if quantized else None,
    )


def load(folder: Path) -> qdrant_edge.EdgeShard:
    """The shard in a folder, with as many threads as its size needs; it remembers their number."""
    import qdrant_edge as edge

    shard = edge.EdgeShard.load(str(folder))
    threads = 1 if shard.info().points_count <= _FOR_ONE_THREAD else cores.usable()
    config = json.loads((folder / CONFIG).read_text())
    if config.get("max_search_threads") == threads:
        return shard
    shard.close()
    vectors = config["vectors"][""]
    params = _vector_params(vectors["size"], "multivector_config" in vectors)
    return edge.EdgeShard.load(str(folder), edge.EdgeConfig(params, max_search_threads=threads))


def check_room(folder: Path, what: str) -> None:
    """Refuse to `create` or `change` a shard on a disk that is nearly full.

    Raises:
        IndexUnavailableError: It is.
    """
    if (free := free_disk(folder)) < _ROOM[what]:
        raise IndexUnavailableError(
            f"{folder} is on a disk with {free / 1e6:.0f} MB free, and Qdrant Edge needs "
            f"{_ROOM[what] / 1e6:.0f} MB to {what} a collection: free some space"
        )


def _vector_params(dim: int, several_pictures: bool) -> qdrant_edge.EdgeVectorParams:
    import qdrant_edge as edge

    best = edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim) if several_pictures else None
    return edge.EdgeVectorParams(size=dim, distance=edge.Distance.Cosine, multivector_config=best)
