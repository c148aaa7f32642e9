"""What the rest of IMMR asks of a vector index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from immr.types import Candidate, FloatArray, Item, ModelVersion


@dataclass(frozen=True)
class IndexReport:
    """What a build put into a collection, and how it was verified."""

    collection: str
    points: int
    recall_at_10: float  # against exact search, on a sample of the documents
    reused: bool


class Collection(Protocol):
    """The documents of one model version, open for search."""

    def search(self, embedding_D: FloatArray, k: int, category: str | None = None) -> list[Candidate]:
        """The k most similar documents, best first; `category` keeps that path and what is below it."""

    def item(self, item_id: str) -> Candidate | None:
        """One document by its id (its cosine is 1)."""

    def count(self) -> int:
        """Number of documents."""

    def close(self) -> None:
        """Let go of files and connections."""


class VectorIndex(Protocol):
    """Collections by model version."""

    def build(self, version: ModelVersion, items: Sequence[Item], embeddings_ND: FloatArray) -> IndexReport:
        """Make and verify the version's collection; a finished one with the same content is reused."""

    def open(self, version_id: str, dim: int, preprocessing_hash: str) -> Collection:
        """Open a version's collection.

        Raises:
            IndexMismatchError: it is not there, not finished, or made for something else; names both sides.
            IndexUnavailableError: the database does not answer.
        """
