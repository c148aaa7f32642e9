"""The engine on qdrant-client: its local mode in a folder, or a collection of a server."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from immr.errors import IndexUnavailableError
from immr.index.bm25 import WORDS, Terms, of_payload
from immr.index.documents import indexed_fields, number_at, payload_key
from immr.index.engines.conditions import Dialect, translate
from immr.index.engines.engine import EXACT, Found, best_with_ties, rows_of
from immr.index.engines.errors import EngineError
from immr.types import AttributeKind, Filters, FloatArray

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

_INDEXING_THRESHOLD_KB = 10_000  # smaller segments are searched exactly
_POLL_S = 0.5
_REQUEST_BYTES = 8_000_000  # a server refuses more than 32 MB; items with many pictures would exceed that
_BYTES_PER_NUMBER = 21  # as JSON


class ClientEngine:
    """One collection of a client."""

    def __init__(
        self,
        client: QdrantClient,
        name: str,
        is_local: bool = False,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        """Use an open client.

        Args:
            client: Closed together with the engine.
            name: Name of a collection, or an alias.
            is_local: Whether the client runs in local mode, which needs a lock around every call.
            release: Called once, when the engine is closed.
        """
        self._client = client
        self._name = name
        self._is_local = is_local
        self._release = release
        self._closed = False
        self._lock = threading.Lock()

    def create(
        self, dim: int, attributes: Mapping[str, AttributeKind], several_pictures: bool = False
    ) -> None:
        """See `Engine.create`."""
        from qdrant_client import models

        best = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
        with self._exclusive():
            if not self._client.collection_exists(self._name):
                self._client.create_collection(
                    self._name,
                    vectors_config=models.VectorParams(
                        size=dim,
                        distance=models.Distance.COSINE,
                        multivector_config=best if several_pictures else None,
                    ),
                    sparse_vectors_config={WORDS: models.SparseVectorParams(modifier=models.Modifier.IDF)},
                    # 0: no graph while points are inserted; `settle` builds it
                    optimizers_config=models.OptimizersConfigDiff(indexing_threshold=0),
                )
            if not self._is_local:  # local mode has no payload indexes
                kinds: dict[str, models.PayloadSchemaParams] = {
                    "keyword": models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD),
                    "keywords": models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD),
                    # no extra graph links for price ranges: see docs/vector-index.md, Speed
                    "number": models.FloatIndexParams(type=models.FloatIndexType.FLOAT, enable_hnsw=False),
                }
                for key, kind in indexed_fields(attributes).items():
                    self._client.create_payload_index(self._name, key, kinds[kind])

    def missing(self, ids: Sequence[int]) -> set[int]:
        """See `Engine.missing`."""
        with self._exclusive():
            found = self._client.retrieve(self._name, _texts_of(ids), with_payload=False)
        return set(ids) - set(map(_id, found))

    def put(
        self, ids: Sequence[int], embeddings: Sequence[FloatArray], payloads: Sequence[Mapping[str, Any]]
    ) -> None:
        """See `Engine.put`."""
        from qdrant_client import models

        points: list[models.PointStruct] = []
        size = 0
        for id, rows_PD, payload in zip(ids, embeddings, payloads, strict=True):
            vector = self._vectors(rows_PD, payload)
            points.append(models.PointStruct(id=str(UUID(int=id)), vector=vector, payload=dict(payload)))
            size += _BYTES_PER_NUMBER * rows_PD.size + len(str(payload))
            if size >= _REQUEST_BYTES:
                self._upsert(points)
                points, size = [], 0
        if points:
            self._upsert(points)

    def _upsert(self, points: list[models.PointStruct]) -> None:
        with self._exclusive():
            self._client.upsert(self._name, points, wait=True)

    def remove(self, ids: Sequence[int]) -> None:
        """See `Engine.remove`."""
        from qdrant_client import models

        with self._exclusive():
            self._client.delete(self._name, models.PointIdsList(points=_texts_of(ids)), wait=True)

    def settle(self, timeout_s: float) -> None:
        """See `Engine.settle`.

        Raises:
            IndexUnavailableError: The optimizers are still busy after this time.
        """
        from qdrant_client import models

        if self._is_local:
            return
        self._client.update_collection(
            self._name,
            optimizers_config=models.OptimizersConfigDiff(indexing_threshold=_INDEXING_THRESHOLD_KB),
        )
        deadline = time.monotonic() + timeout_s
        idle = 0
        while idle < 2:  # right after a change the optimizers may not have started yet
            green = self._client.get_collection(self._name).status == models.CollectionStatus.GREEN
            idle = idle + 1 if green else 0
            if time.monotonic() > deadline:
                raise IndexUnavailableError(
                    f"the optimizers of {self._name} are still busy after {timeout_s:.0f} s: check the "
                    "server's load, then run the same `immr index` command again to resume"
                )
            time.sleep(_POLL_S)

    def nearest(
        self,
        embedding_D: FloatArray,
        filters: Sequence[Filters],
        limit: int,
        hnsw_ef: int,
        offset: int = 0,
        with_payload: bool = True,
    ) -> list[list[Found]]:
        """See `Engine.nearest`."""
        from qdrant_client import models

        query = embedding_D.tolist()
        params = models.SearchParams(hnsw_ef=hnsw_ef or None, exact=hnsw_ef == EXACT)
        found = self._query(
            filters,
            # a server takes both forms
            query=[query] if self._is_local and self._has_several_pictures else query,
            limit=limit,
            offset=offset,
            params=None if self._is_local else params,
            with_payload=with_payload,
        )
        return [_found(points) for points in found]

    def matching(self, terms: Terms, filters: Sequence[Filters], limit: int, most: int) -> list[list[Found]]:
        """See `Engine.matching`."""
        found = self._query(filters, query=_sparse(terms), using=WORDS, limit=limit, with_payload=False)
        return [_found(best_with_ties(points, most)) for points in found]

    def counts(self, name: str, filters: Filters, limit: int) -> dict[str, int]:
        """See `Engine.counts`."""
        with self._exclusive():
            found = self._client.facet(
                self._name, payload_key(name), facet_filter=_condition(filters), limit=limit, exact=True
            )
        return {str(hit.value): hit.count for hit in found.hits}

    def ends(self, name: str, filters: Filters) -> tuple[float, float] | None:
        """See `Engine.ends`."""
        from qdrant_client import models

        key = payload_key(name)
        ends = []
        for direction in (models.Direction.ASC, models.Direction.DESC):
            with self._exclusive():
                records, _ = self._client.scroll(
                    self._name,
                    scroll_filter=_condition(filters),
                    limit=1,
                    order_by=models.OrderBy(key=key, direction=direction),
                )
            ends += [number_at(record.payload or {}, name) for record in records]
        return (ends[0], ends[1]) if ends else None

    def payloads(self, ids: Sequence[int]) -> dict[int, Mapping[str, Any]]:
        """See `Engine.payloads`."""
        with self._exclusive():
            points = self._client.retrieve(self._name, _texts_of(ids))
        return {_id(point): point.payload or {} for point in points}

    def embeddings(self, ids: Sequence[int]) -> dict[int, FloatArray]:
        """See `Engine.embeddings`."""
        with self._exclusive():
            points = self._client.retrieve(self._name, _texts_of(ids), with_payload=False, with_vectors=True)
        return {_id(point): rows_of(point.vector) for point in points}

    def count(self) -> int:
        """See `Engine.count`."""
        with self._exclusive():
            return self._client.count(self._name, exact=True).count

    def close(self) -> None:
        """See `Engine.close`."""
        if not self._closed:
            self._closed = True
            self._client.close()
            self._release()

    def _query(self, filters: Sequence[Filters], **query: Any) -> list[list[models.ScoredPoint]]:
        from qdrant_client import models

        requests = [models.QueryRequest(filter=_condition(each), **query) for each in filters]
        with self._exclusive():
            answers = self._client.query_batch_points(self._name, requests)
        return [answer.points for answer in answers]

    def _vectors(self, rows_PD: FloatArray, payload: Mapping[str, Any]) -> Any:
        """An earlier release's collection has no words."""
        embedding = (rows_PD if self._has_several_pictures else rows_PD[0]).tolist()
        return {"": embedding, WORDS: _sparse(of_payload(payload))} if self._has_words else embedding

    @property
    def _has_words(self) -> bool:
        return WORDS in (self._params.sparse_vectors or {})

    @property
    def _has_several_pictures(self) -> bool:
        vectors = self._params.vectors
        return getattr(vectors, "multivector_config", None) is not None

    @cached_property
    def _params(self) -> models.CollectionParams:
        return self._client.get_collection(self._name).config.params

    def _exclusive(self) -> AbstractContextManager[Any]:
        if self._closed:
            raise EngineError("the collection is closed")
        # local mode grows its arrays in place, which a concurrent search must not see
        return self._lock if self._is_local else nullcontext()


def open_local(folder: Path, release: Callable[[], None]) -> ClientEngine:
    """Local mode in a folder: exact search in this process, with all points in memory."""
    from qdrant_client import QdrantClient

    with warnings.catch_warnings():  # about 20,000 points and more; `QdrantIndex` has its own warning
        warnings.simplefilter("ignore", UserWarning)
        client = QdrantClient(path=str(folder), force_disable_check_same_thread=True)
    return ClientEngine(client, folder.name, is_local=True, release=release)


def _found(points: Sequence[models.ScoredPoint]) -> list[Found]:
    return [Found(_id(point), point.score, point.payload or {}) for point in points]


def _texts_of(ids: Sequence[int]) -> list[Any]:
    return [str(UUID(int=id)) for id in ids]


def _id(point: models.Record | models.ScoredPoint) -> int:
    return UUID(str(point.id)).int


def _sparse(terms: Terms) -> models.SparseVector:
    from qdrant_client import models

    return models.SparseVector(indices=list(terms.numbers), values=list(terms.weights))


def _condition(filters: Filters) -> models.Filter | None:
    found: models.Filter | None = translate(filters, _dialect())
    return found


@cache
def _dialect() -> Dialect:
    from qdrant_client import models

    return Dialect(
        condition=models.FieldCondition,
        any_of=lambda values: models.MatchAny(any=values),
        between=lambda low, high: models.Range(gte=low, lte=high),
        has_id=lambda id: models.HasIdCondition(has_id=_texts_of([id])),
        all_of=lambda must, must_not: models.Filter(must=must or None, must_not=must_not or None),
        one_of=lambda conditions: models.Filter(should=conditions),
    )
