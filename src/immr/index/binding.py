"""The binding of a collection to a model version, so that no other version's queries can search it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from immr.errors import IndexMismatchError
from immr.types import AttributeKind


@dataclass(frozen=True)
class Binding:
    """What a content was built from, and how well searches find its documents; stored with the content.

    Attributes:
        points: Number of documents that were indexed.
        recall_at_10: Recall against exact search, measured by the verification.
        hnsw_ef: Search width that the verification found sufficient; `engine.EXACT` if none was.
        sequence: Last catalogue change that the build includes.
        ready: Whether the content was verified.
        attributes: The attributes that searches can filter by.
        words: Whether searches can match words; not in contents of earlier releases.
        several_pictures: Whether a document may have several embeddings, one for each picture.
        manifest_hash: Of the version's training set, which tells apart versions of two registries that have the
            same id; empty in contents of earlier releases.
    """

    version_id: str
    dim: int
    preprocessing_hash: str
    content_hash: str
    points: int
    normalization: str = "l2"
    recall_at_10: float = 0.0
    hnsw_ef: int = 128
    sequence: int = 0
    ready: bool = False
    attributes: Mapping[str, AttributeKind] = field(default_factory=dict)
    words: bool = False
    several_pictures: bool = False
    manifest_hash: str = ""

    def as_metadata(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any] | None) -> Binding | None:
        """The binding in a collection's metadata, or None if the collection is not one of IMMR's."""
        names = [each.name for each in dataclasses.fields(cls)]
        since_later_releases = {"attributes", "words", "several_pictures", "manifest_hash"}
        if not metadata or any(name not in metadata for name in names if name not in since_later_releases):
            return None
        return cls(**{name: metadata[name] for name in names if name in metadata})


def check_binding(
    collection: str,
    found: Binding,
    version_id: str,
    dim: int,
    preprocessing_hash: str,
    manifest_hash: str = "",
) -> None:
    """Check that a collection belongs to a query encoder, before it is searched, changed or replaced.

    The training set is compared only if both sides know it.

    Raises:
        IndexMismatchError: The collection belongs to another one; the message names what differs on both sides.
    """
    of_collection = {
        "version": found.version_id,
        "dim": found.dim,
        "preprocessing": found.preprocessing_hash,
        "normalization": found.normalization,
    }
    of_encoder = {
        "version": version_id,
        "dim": dim,
        "preprocessing": preprocessing_hash,
        "normalization": "l2",
    }
    if found.manifest_hash and manifest_hash:
        of_collection["training set"], of_encoder["training set"] = found.manifest_hash, manifest_hash
    different = [name for name in of_collection if of_collection[name] != of_encoder[name]]
    if different:
        raise IndexMismatchError(
            f"the collection {collection} was built for "
            + ", ".join(f"{name} {of_collection[name]}" for name in different)
            + ", but the query encoder has "
            + ", ".join(f"{name} {of_encoder[name]}" for name in different)
            + ". It may belong to another registry: set IMMR_INDEX_URL to the index of this one. If nothing else "
            + f"uses the collection, delete it and run `immr index build TRAINING_SET --model {version_id}`"
        )
