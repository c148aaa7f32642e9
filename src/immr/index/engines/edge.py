"""The engine on Qdrant Edge, the default: a shard in this process, with HNSW and payload indexes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from immr.index.bm25 import WORDS, Terms, of_payload
from immr.index.documents import WHOLE_CATEGORY, indexed_fields, number_at, payload_key
from immr.index.engines.conditions import Dialect, translate
from immr.index.engines.edge_shard import CONFIG, check_room, load, new_config
from immr.index.engines.engine import EXACT, Found, best_with_ties, rows_of
from immr.index.engines.errors import EngineError
from immr.types import AttributeKind, Filters, FloatArray

if TYPE_CHECKING:
    import qdrant_edge

_ID = attrgetter("id.int")
_FIELDS = attrgetter("id.int", "score", "payload")
OVERSAMPLING = 2.0
"""Of quantized searches, before rescoring: without it recall@10 fell to 0.92."""


class EdgeEngine:
    """One shard in a folder, loaded if it exists."""

    def __init__(
        self,
        folder: Path,
        release: Callable[[], None] = lambda: None,
        quantized: bool = False,
        oversampling: float = OVERSAMPLING,
    ) -> None:
        """Load the shard if it exists.

        Args:
            folder: The shard's folder.
            release: Called once, by `close`.
            quantized: Whether `create` gives a new shard int8 vectors beside the original ones. Searches then
                compare int8 vectors and rescore the best with the originals.
            oversampling: How many times as many int8 vectors are rescored as a search returns.
        """
        import qdrant_edge

        self._edge = qdrant_edge
        self._folder = folder
        self._release = release
        self._quantized = quantized
        self._oversampling = oversampling
        self._closed = False
        self._shard: qdrant_edge.EdgeShard | None = None
        if (folder / CONFIG).is_file():
            check_room(folder, "change")  # loading populates files, and writes the configuration
            with _translate_errors():
                self._shard = load(folder)
            # earlier releases did not index it; does nothing if it is there
            self._update(
                qdrant_edge.UpdateOperation.create_field_index(
                    WHOLE_CATEGORY, qdrant_edge.PayloadSchemaType.Keyword
                )
            )

    def create(
        self, dim: int, attributes: Mapping[str, AttributeKind], several_pictures: bool = False
    ) -> None:
        """See `Engine.create`."""
        edge = self._edge
        if self._shard is None:
            check_room(self._folder, "create")
            self._folder.mkdir(parents=True, exist_ok=True)
            with _translate_errors():
                self._shard = edge.EdgeShard.create(
                    str(self._folder), new_config(dim, several_pictures, self._quantized)
                )
        kinds = {
            "keyword": edge.PayloadSchemaType.Keyword,
            "keywords": edge.PayloadSchemaType.Keyword,
            # no extra graph links for price ranges: see docs/vector-index.md, Speed
            "number": edge.FloatIndexParams(enable_hnsw=False),
        }
        for key, kind in indexed_fields(attributes).items():
            self._update(edge.UpdateOperation.create_field_index(key, kinds[kind]))

    def missing(self, ids: Sequence[int]) -> set[int]:
        """See `Engine.missing`."""
        with _translate_errors():
            found = self._open().retrieve(_uuids(ids), with_payload=False, with_vector=False)
        return set(ids) - set(map(_ID, found))

    def put(
        self, ids: Sequence[int], embeddings: Sequence[FloatArray], payloads: Sequence[Mapping[str, Any]]
    ) -> None:
        """See `Engine.put`; points are durable because the shard has a write-ahead log."""
        points = [
            self._edge.Point(UUID(int=id), self._vectors(rows_PD, payload), dict(payload))
            for id, rows_PD, payload in zip(ids, embeddings, payloads, strict=True)
        ]
        self._update(self._edge.UpdateOperation.upsert_points(points))

    def remove(self, ids: Sequence[int]) -> None:
        """See `Engine.remove`."""
        self._update(self._edge.UpdateOperation.delete_points(_uuids(ids)))

    def settle(self, timeout_s: float) -> None:
        """See `Engine.settle`; the optimizers run in this thread, so `timeout_s` does not apply."""
        with _translate_errors():
            shard = self._open()
            while shard.optimize():
                pass
            shard.flush()

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
        edge = self._edge
        query = edge.Query.Nearest(embedding_D.tolist())
        params = edge.SearchParams(
            hnsw_ef=hnsw_ef or None,
            exact=hnsw_ef == EXACT,
            # ignored by shards without quantization
            quantization=edge.QuantizationSearchParams(rescore=True, oversampling=self._oversampling),
        )
        return [_found(points) for points in self._query(query, filters, limit, offset, with_payload, params)]

    def matching(self, terms: Terms, filters: Sequence[Filters], limit: int, most: int) -> list[list[Found]]:
        """See `Engine.matching`."""
        edge = self._edge
        words = edge.SparseVector(list(terms.numbers), list(terms.weights))
        found = self._query(edge.Query.Nearest(words, using=WORDS), filters, limit)
        return [_found(best_with_ties(points, most)) for points in found]

    def counts(self, name: str, filters: Filters, limit: int) -> dict[str, int]:
        """See `Engine.counts`."""
        request = self._edge.FacetRequest(payload_key(name), limit, True, self._condition(filters))
        with _translate_errors():
            return {str(hit.value): hit.count for hit in self._open().facet(request).hits}

    def ends(self, name: str, filters: Filters) -> tuple[float, float] | None:
        """See `Engine.ends`."""
        edge, key = self._edge, payload_key(name)
        ends = []
        for direction in (edge.Direction.Asc, edge.Direction.Desc):
            request = edge.ScrollRequest(
                limit=1,
                filter=self._condition(filters),
                with_payload=True,
                order_by=edge.OrderBy(key, direction),
            )
            with _translate_errors():
                records, _ = self._open().scroll(request)
            ends += [number_at(record.payload or {}, name) for record in records]
        return (ends[0], ends[1]) if ends else None

    def payloads(self, ids: Sequence[int]) -> dict[int, Mapping[str, Any]]:
        """See `Engine.payloads`."""
        with _translate_errors():
            records = self._open().retrieve(_uuids(ids), with_payload=True, with_vector=False)
        return {_ID(record): record.payload or {} for record in records}

    def embeddings(self, ids: Sequence[int]) -> dict[int, FloatArray]:
        """See `Engine.embeddings`."""
        with _translate_errors():
            records = self._open().retrieve(_uuids(ids), with_payload=False, with_vector=True)
        return {_ID(record): rows_of(record.vector) for record in records}

    def count(self) -> int:
        """See `Engine.count`."""
        with _translate_errors():
            return self._open().count(self._edge.CountRequest(exact=True))

    def close(self) -> None:
        """See `Engine.close`."""
        if not self._closed:
            self._closed = True
            if self._shard is not None:
                self._shard.close()
            self._release()

    def _query(
        self,
        query: qdrant_edge.Query,
        filters: Sequence[Filters],
        limit: int,
        offset: int = 0,
        with_payload: bool = False,
        params: qdrant_edge.SearchParams | None = None,
    ) -> list[list[qdrant_edge.ScoredPoint]]:
        edge = self._edge
        requests = [
            edge.QueryRequest(
                limit=limit,
                offset=offset,
                query=query,
                filter=self._condition(each),
                params=params,
                with_payload=with_payload,
            )
            for each in filters
        ]
        with _translate_errors():
            return self._open().query_batch(edge.QueryBatchRequest(requests))

    def _open(self) -> qdrant_edge.EdgeShard:
        if self._closed or self._shard is None:
            raise EngineError("the collection is closed" if self._closed else f"no shard in {self._folder}")
        return self._shard

    def _vectors(self, rows_PD: FloatArray, payload: Mapping[str, Any]) -> Any:
        """An earlier release's shard has no words."""
        embedding = (rows_PD if self._has_several_pictures else rows_PD[0]).tolist()
        if not self._has_words:
            return embedding
        terms = of_payload(payload)
        return {"": embedding, WORDS: self._edge.SparseVector(list(terms.numbers), list(terms.weights))}

    @property
    def _has_words(self) -> bool:
        return WORDS in (self._config.get("sparse_vectors") or {})

    @property
    def _has_several_pictures(self) -> bool:
        return "multivector_config" in self._config["vectors"][""]

    @cached_property
    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = json.loads((self._folder / CONFIG).read_text())
        return config

    def _update(self, operation: qdrant_edge.UpdateOperation) -> None:
        check_room(self._folder, "change")
        with _translate_errors():
            self._open().update(operation)

    def _condition(self, filters: Filters) -> qdrant_edge.Filter | None:
        found: qdrant_edge.Filter | None = translate(filters, self._dialect)
        return found

    @cached_property
    def _dialect(self) -> Dialect:
        edge = self._edge
        return Dialect(
            condition=edge.FieldCondition,
            any_of=edge.MatchAny,
            between=lambda low, high: edge.RangeFloat(gte=low, lte=high),
            has_id=lambda id: edge.HasIdCondition({UUID(int=id)}),
            all_of=lambda must, must_not: edge.Filter(must=must, must_not=must_not),
            one_of=lambda conditions: edge.Filter(should=conditions),
        )


def _found(points: Sequence[qdrant_edge.ScoredPoint]) -> list[Found]:
    return list(map(Found._make, map(_FIELDS, points)))  # a call of the class takes longer


def _uuids(ids: Sequence[int]) -> list[Any]:
    return [UUID(int=id) for id in ids]


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Turn the plain `Exception`s that Qdrant Edge raises into `EngineError`s."""
    try:
        yield
    except Exception as error:
        if type(error) is Exception:
            raise EngineError(str(error)) from error
        raise
