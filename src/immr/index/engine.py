"""What the index asks of the engine that holds one content, and of the place where contents lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from immr.index.documents import Binding
from immr.index.journal import Journal
from immr.types import Filters, FloatArray


class EngineError(Exception):
    """An engine failed, in its own words."""


@dataclass(frozen=True)
class Found:
    """A point that a search found."""

    id: str
    score: float
    payload: Mapping[str, Any]


class Engine(Protocol):
    """One content, open; may be used from many threads."""

    def create(self, dim: int) -> None:
        """Make it where it is not there yet: payload indexes first, no HNSW graph before `settle`."""

    def missing(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that have no point."""

    def put(
        self, ids: Sequence[str], embeddings_ND: FloatArray, payloads: Sequence[Mapping[str, Any]]
    ) -> None:
        """Insert or replace points; durable when it returns."""

    def remove(self, ids: Sequence[str]) -> None:
        """Delete points; unknown ids are fine."""

    def settle(self, timeout_s: float) -> None:
        """Build the graph, and return when no optimizer has work left."""

    def nearest(
        self, embedding_D: FloatArray, limit: int, offset: int, filters: Filters, hnsw_ef: int
    ) -> list[Found]:
        """The points most similar to the embedding, best first."""

    def payload(self, id: str) -> Mapping[str, Any] | None:
        """What a point carries."""

    def embedding(self, id: str) -> FloatArray | None:
        """A point's unit vector."""

    def count(self) -> int:
        """Number of points, exactly."""

    def close(self) -> None:
        """Let go of it; twice does no harm."""


class Storage(Protocol):
    """Contents by name, and the one that each collection's name points at."""

    where: str

    def engine(self, content: str) -> Engine:
        """The engine of a content, to fill or to check it."""

    def serving(self, collection: str, content: str) -> Engine:
        """The engine of a published content, to search it for as long as the collection serves."""

    def published(self, collection: str) -> str | None:
        """The content that serves under the collection's name."""

    def binding(self, content: str) -> Binding | None:
        """What the content is bound to, None where there is no such content; never needs a lock."""

    def bind(self, content: str, binding: Binding) -> None:
        """Write down what the content is bound to."""

    def publish(self, collection: str, content: str) -> None:
        """Let the content serve under the collection's name, in place of the one before."""

    def discard_others(self, collection: str, keep: str) -> None:
        """Delete the collection's other contents."""

    def collections(self) -> list[str]:
        """Names of all collections."""

    def remove(self, collection: str) -> bool:
        """Delete a collection whole; False where a process holds it and it stays."""

    def journal(self, collection: str) -> Journal | None:
        """Where changes are left for the process that serves; None where they can be made at once."""

    def applied(self, content: str) -> int:
        """The last change of the journal that is in the content."""

    def note_applied(self, content: str, sequence: int) -> None:
        """Write that down."""
