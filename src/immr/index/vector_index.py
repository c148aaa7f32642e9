"""What the rest of IMMR asks of a vector index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from immr.types import Candidate, Filters, FloatArray, Item, ModelVersion

EVERYTHING = Filters()


@dataclass(frozen=True)
class IndexReport:
    """What a build put into a collection, and how it was verified."""

    collection: str
    points: int
    recall_at_10: float  # against exact search, on a sample of the documents
    reused: bool
    sequence: int = 0  # the last catalogue change that the build knew of


@dataclass(frozen=True)
class Content:
    """What a collection serves from; a new build replaces it."""

    name: str
    sequence: int  # the last catalogue change that was built in


@dataclass(frozen=True)
class Changes:
    """Catalogue changes for one collection, each item once; `sequences` has one number per upsert, then
    one per deletion, and larger is later."""

    items: Sequence[Item]
    embeddings_ND: FloatArray
    deleted: Sequence[str]
    sequences: Sequence[int]


class Collection(Protocol):
    """The documents of one model version, open for search."""

    def search(
        self, embedding_D: FloatArray, k: int, filters: Filters = EVERYTHING, offset: int = 0
    ) -> list[Candidate]:
        """The k most similar documents that pass, best first, after the first `offset` ones."""

    def item(self, item_id: str) -> Candidate | None:
        """One document by its id (its cosine is 1)."""

    def embedding(self, item_id: str) -> FloatArray | None:
        """(D,) unit vector of one document, to search for more like it."""

    def count(self) -> int:
        """Number of documents."""

    def refresh(self) -> int:
        """Take over catalogue changes that were left for this process; returns how many."""

    def close(self) -> None:
        """Let go of files and connections."""


class VectorIndex(Protocol):
    """Collections by model version."""

    def build(
        self, version: ModelVersion, items: Sequence[Item], embeddings_ND: FloatArray, sequence: int = 0
    ) -> IndexReport:
        """Make and verify the version's collection; a finished one with the same content is reused.

        `sequence` is the last catalogue change that `items` already have in them.
        """

    def open(self, version_id: str, dim: int, preprocessing_hash: str) -> Collection:
        """Open a version's collection.

        Raises:
            IndexMismatchError: it is not there, not finished, or made for something else; names both sides.
            IndexUnavailableError: the database does not answer.
        """

    def change(self, version: ModelVersion, changes: Changes) -> None:
        """Bring changes to the version's collection; after this they are never lost, and twice does no harm.

        Raises:
            IndexMismatchError: the version has no finished collection.
            IndexUnavailableError: the database does not answer; deliver the same changes again.
        """

    def content(self, version_id: str) -> Content | None:
        """What the version's collection serves from now; None where it has no finished one.

        Raises:
            IndexUnavailableError: the database does not answer.
        """

    def applied(self, version_id: str) -> int | None:
        """The last change that searches see; None where that is known by delivery alone, or not at all."""

    def versions(self) -> list[str]:
        """The versions that have a collection, finished or not."""

    def remove(self, version_id: str) -> bool:
        """Delete a version's collection; False where a process holds it and it stays."""
