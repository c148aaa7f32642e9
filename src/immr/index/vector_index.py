"""The port of the vector index: collections of documents by model version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from immr.types import AttributeKind, Candidate, Facet, Filters, FloatArray, Item, ModelVersion

EVERYTHING = Filters()
MOST_MATCHED = 400
"""Documents that a search by words finds at most."""


@dataclass(frozen=True)
class IndexReport:
    """The result of a build.

    Attributes:
        recall_at_10: Measured against exact search on a sample of the documents.
        reused: Whether a finished content with the same documents was found.
        sequence: Last catalogue change that the build includes.
    """

    collection: str
    points: int
    recall_at_10: float
    reused: bool
    sequence: int = 0


@dataclass(frozen=True)
class Content:
    """The documents that a collection serves now; a new build replaces them."""

    name: str
    sequence: int  # last catalogue change that the build includes
    manifest_hash: str = ""  # of its version's training set; empty if it was built by an earlier release

    def is_of(self, version: ModelVersion) -> bool:
        """Whether it was built for this version, and not for one of another registry that has the same id."""
        return self.manifest_hash in ("", version.manifest_hash)


@dataclass(frozen=True)
class Changes:
    """Catalogue changes for one collection, each item once.

    Attributes:
        items: New or changed items.
        embeddings_PD: (P, D) unit rows; those of an item are one after the other.
        deleted: Ids of deleted items.
        sequences: One increasing number per item, then one per deletion; a larger number is later.
        pictures_N: How many rows each item has; None: one.
    """

    items: Sequence[Item]
    embeddings_PD: FloatArray
    deleted: Sequence[str]
    sequences: Sequence[int]
    pictures_N: Sequence[int] | None = None


class Collection(Protocol):
    """The documents of one model version, open for search."""

    def search(
        self, embedding_D: FloatArray, k: int, filters: Filters = EVERYTHING, offset: int = 0
    ) -> list[Candidate]:
        """The k most similar documents that pass the filters, best first, after skipping `offset`."""

    @property
    def has_words(self) -> bool:
        """Whether `matching_ids` works: contents of earlier releases have no words."""

    def similar_ids(
        self, embedding_D: FloatArray, k: int, filters: Sequence[Filters]
    ) -> list[dict[int, float]]:
        """For each of the filters, the ids of the k most similar documents, best first, and their cosines."""

    def matching_ids(self, text: str, k: int, filters: Sequence[Filters]) -> list[list[int]]:
        """For each of the filters, the ids of the k documents whose words match a text best by BM25, best first.

        At most `MOST_MATCHED`; none for a text without words. Equal matches are in order of their ids.

        Raises:
            IndexMismatchError: The collection was built by a release without words.
        """

    def candidates(self, cosines: Mapping[int, float]) -> dict[int, Candidate]:
        """The documents with these ids that still exist, with these cosines."""

    @property
    def attributes(self) -> Mapping[str, AttributeKind]:
        """What searches can filter by and count: `category`, `price` and the declared attributes."""

    def facet(self, name: str, filters: Filters = EVERYTHING) -> Facet:
        """The values of an attribute among all documents that pass the filters."""

    def item(self, item_id: str) -> Candidate | None:
        """One document by its id, with a cosine of 1, or None."""

    def embedding(self, item_id: str) -> FloatArray | None:
        """(D,) unit vector of one document, or None."""

    def embeddings(self, item_ids: Sequence[str]) -> dict[str, FloatArray]:
        """(pictures, D) unit rows of those documents that exist, by item_id; the main picture comes first."""

    def count(self) -> int:
        """Number of documents."""

    def refresh(self) -> int:
        """Apply catalogue changes that wait for this process; returns how many."""

    def close(self) -> None:
        """Release files and connections."""


class VectorIndex(Protocol):
    """Collections by model version."""

    def build(
        self,
        version: ModelVersion,
        items: Sequence[Item],
        embeddings_PD: FloatArray,
        sequence: int = 0,
        pictures_N: Sequence[int] | None = None,
    ) -> IndexReport:
        """Build and verify the version's collection; a finished one with the same documents is reused.

        `sequence` is the last catalogue change that `items` include, `pictures_N` how many rows each item has
        (None: one). A search finds an item by the most similar of its rows.
        """

    def open(self, version_id: str, dim: int, preprocessing_hash: str, manifest_hash: str = "") -> Collection:
        """Open a version's collection.

        With the `manifest_hash` of its training set, a collection of another registry's version with the same id
        is recognized.

        Raises:
            IndexMismatchError: The collection is missing, unfinished, or built for another encoder.
            IndexUnavailableError: The database is not available.
        """

    def change(self, version: ModelVersion, changes: Changes) -> None:
        """Deliver changes to the version's collection; they are durable when this returns.

        Delivering the same changes again is harmless.

        Raises:
            IndexMismatchError: The version has no finished collection, or another registry's version has it.
            IndexUnavailableError: The database is not available; deliver the same changes again.
        """

    def content(self, version_id: str) -> Content | None:
        """The content that the version's collection serves now, or None if no collection is finished.

        Raises:
            IndexUnavailableError: The database is not available.
        """

    def obstacle(self, version_id: str) -> str:
        """Why these settings cannot open the version's collection, although it is finished; empty if they can.

        Raises:
            IndexUnavailableError: The database is not available.
        """

    def applied(self, version_id: str) -> int | None:
        """Sequence of the last change visible to searches; None if only the delivering process knows."""

    def last_change(self, version_id: str) -> int:
        """Sequence of the last catalogue change that was built in, applied or journalled; 0 if there is none."""

    def versions(self) -> list[str]:
        """The ids of all versions with a collection, finished or not."""

    def remove(self, version_id: str) -> bool:
        """Delete a version's collection; False if a process holds it, in which case nothing is deleted."""
