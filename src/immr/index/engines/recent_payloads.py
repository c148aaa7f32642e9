"""An engine whose recently read payloads stay in memory: reading them takes longer than finding the points."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from immr.index.bm25 import Terms
from immr.index.engines.engine import Found, VectorEngine
from immr.types import AttributeKind, Filters, FloatArray

MOST = 20_000
"""Payloads in memory; about 1.5 kB each."""


class RecentPayloads:
    """Adds a cache of payloads to an engine whose points only this object changes. Thread-safe."""

    def __init__(self, engine: VectorEngine, most: int = MOST) -> None:
        """Payloads are kept in two halves; when the younger one is full, it replaces the older one."""
        self._engine = engine
        self._half = max(1, most // 2)
        self._younger: dict[int, Mapping[str, Any]] = {}
        self._older: dict[int, Mapping[str, Any]] = {}
        self._changes = 0
        self._lock = threading.Lock()

    def create(
        self, dim: int, attributes: Mapping[str, AttributeKind], several_pictures: bool = False
    ) -> None:
        """See `Engine.create`."""
        self._engine.create(dim, attributes, several_pictures)

    def missing(self, ids: Sequence[int]) -> set[int]:
        """See `Engine.missing`."""
        return self._engine.missing(ids)

    def put(
        self, ids: Sequence[int], embeddings: Sequence[FloatArray], payloads: Sequence[Mapping[str, Any]]
    ) -> None:
        """See `Engine.put`."""
        try:
            self._engine.put(ids, embeddings, payloads)
        finally:
            self._forget(ids)

    def remove(self, ids: Sequence[int]) -> None:
        """See `Engine.remove`."""
        try:
            self._engine.remove(ids)
        finally:
            self._forget(ids)

    def settle(self, timeout_s: float) -> None:
        """See `Engine.settle`."""
        self._engine.settle(timeout_s)

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
        found = self._engine.nearest(embedding_D, filters, limit, hnsw_ef, offset, with_payload=False)
        return list(map(self._with_payloads, found)) if with_payload else found

    def matching(self, terms: Terms, filters: Sequence[Filters], limit: int, most: int) -> list[list[Found]]:
        """See `Engine.matching`."""
        return self._engine.matching(terms, filters, limit, most)

    def counts(self, name: str, filters: Filters, limit: int) -> dict[str, int]:
        """See `Engine.counts`."""
        return self._engine.counts(name, filters, limit)

    def ends(self, name: str, filters: Filters) -> tuple[float, float] | None:
        """See `Engine.ends`."""
        return self._engine.ends(name, filters)

    def payloads(self, ids: Sequence[int]) -> dict[int, Mapping[str, Any]]:
        """See `Engine.payloads`."""
        younger, older = self._younger, self._older
        known: dict[int, Mapping[str, Any]] = {}
        absent = []
        for id in ids:
            payload = younger.get(id) or older.get(id)
            if payload is None:
                absent.append(id)
            else:
                known[id] = payload
        if absent:
            changes = self._changes
            read = self._engine.payloads(absent)
            self._keep(read, changes)
            known |= read
        return known

    def embeddings(self, ids: Sequence[int]) -> dict[int, FloatArray]:
        """See `Engine.embeddings`."""
        return self._engine.embeddings(ids)

    def count(self) -> int:
        """See `Engine.count`."""
        return self._engine.count()

    def close(self) -> None:
        """See `Engine.close`."""
        self._engine.close()
        self._younger, self._older = {}, {}

    def _with_payloads(self, found: Sequence[Found]) -> list[Found]:
        """Without points that were removed since they were found."""
        payloads = self.payloads([point.id for point in found])
        return [Found(point.id, point.score, payloads[point.id]) for point in found if point.id in payloads]

    def _keep(self, read: Mapping[int, Mapping[str, Any]], changes: int) -> None:
        """Unless points changed since `changes`, because what was read may be from before."""
        with self._lock:
            if changes != self._changes:
                return
            self._younger.update(read)
            if len(self._younger) >= self._half:
                self._older, self._younger = self._younger, {}

    def _forget(self, ids: Sequence[int]) -> None:
        with self._lock:
            self._changes += 1
            for id in ids:
                self._younger.pop(id, None)
                self._older.pop(id, None)
