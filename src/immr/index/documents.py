"""What goes into a collection: points made of items and embeddings, and the binding to a model version."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from immr.errors import ContractError, IndexMismatchError
from immr.index.verify import are_unit_rows
from immr.storage import fingerprint
from immr.types import Candidate, FloatArray, Item, ModelVersion

COLLECTION_PREFIX = "immr_"
SEPARATOR = "--"
"""Between a collection's name and the hash of a content of it."""

PAYLOAD_INDEXES: Mapping[str, Literal["keyword", "float"]] = {"categories": "keyword", "price": "float"}
"""What searches filter by; engines index it before the data come."""

_POINT_NAMESPACE = uuid.UUID("6f1d2a52-8c0b-5b0e-9a55-0d1c7b4f3e21")


@dataclass(frozen=True)
class Binding:
    """What a collection carries with it, so that no other version's queries ever meet it."""

    version_id: str
    dim: int
    preprocessing_hash: str
    content_hash: str
    points: int
    normalization: str = "l2"
    recall_at_10: float = 0.0
    hnsw_ef: int = 128  # how widely a search looks, as the verification found it to be enough
    sequence: int = 0  # the last catalogue change that was built in
    ready: bool = False

    def as_metadata(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any] | None) -> Binding | None:
        """The binding in a collection's metadata, or None where it is no collection of ours."""
        names = [field.name for field in dataclasses.fields(cls)]
        if not metadata or any(name not in metadata for name in names):
            return None
        return cls(**{name: metadata[name] for name in names})


@dataclass(frozen=True)
class Documents:
    """Points in item_id order, with the binding that names their content."""

    ids: list[str]
    payloads: list[dict[str, Any]]
    embeddings_ND: FloatArray
    binding: Binding

    @classmethod
    def of(
        cls, version: ModelVersion, items: Sequence[Item], embeddings_ND: FloatArray, sequence: int = 0
    ) -> Documents:
        """Check and order a version's documents; `sequence` is the last change that they have in them.

        Raises:
            ContractError: no items, a repeated item_id, or rows that are not unit vectors.
            IndexMismatchError: the embeddings are not of the version's dimension.
        """
        if not items:
            raise ContractError(f"there is no item to index for {version.id}: check the items table")
        check(version, items, embeddings_ND)
        order = sorted(range(len(items)), key=lambda row: items[row].item_id)
        payloads = [payload(items[row]) for row in order]
        ordered_ND = np.ascontiguousarray(embeddings_ND[order], dtype=np.float32)
        # a content takes in later changes where it lies: one of an earlier sequence may be another by now
        content = fingerprint.of_values(
            version.id,
            version.preprocessing_hash,
            payloads,
            fingerprint.of_bytes(ordered_ND.tobytes()),
            sequence,
        )
        binding = Binding(
            version.id, version.dim, version.preprocessing_hash, content, len(items), sequence=sequence
        )
        return cls([point_id(items[row].item_id) for row in order], payloads, ordered_ND, binding)


def payload(item: Item) -> dict[str, Any]:
    """The item's fields that a hit shows, and every prefix of its category to filter by."""
    return {
        "item_id": item.item_id,
        "title": item.title,
        "category": item.category,
        "categories": category_prefixes(item.category),
        "image": item.image,
        "price": item.price,
    }


def candidate(payload: Mapping[str, Any], cosine: float) -> Candidate:
    """A candidate from what a point carries."""
    return Candidate(
        item_id=payload["item_id"],
        cosine=cosine,
        title=payload["title"],
        category=payload["category"],
        image=payload["image"],
    )


def category_prefixes(category: str) -> list[str]:
    """`Packages/Milk` → [`Packages`, `Packages/Milk`]."""
    parts = [part for part in category.split("/") if part]
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]


def point_id(item_id: str) -> str:
    """Qdrant wants a UUID: the same item always gets the same one."""
    return str(uuid.uuid5(_POINT_NAMESPACE, item_id))


def check(version: ModelVersion, items: Sequence[Item], embeddings_ND: FloatArray) -> None:
    """Whether these embeddings can go into the version's collection; errors as of `Documents.of`."""
    if embeddings_ND.shape != (len(items), version.dim):
        raise IndexMismatchError(
            f"{version.id} has {version.dim} dimensions and there are {len(items)} items, but the embeddings "
            f"have the shape {embeddings_ND.shape}: embed the items with {version.id} itself"
        )
    if len({item.item_id for item in items}) < len(items):
        raise ContractError(f"an item_id occurs twice among the items for {version.id}: run `immr govern`")
    if not are_unit_rows(embeddings_ND):
        raise ContractError(
            f"an embedding for {version.id} is not of length 1: normalise the rows before indexing"
        )


def check_bound(collection: str, found: Binding, version_id: str, dim: int, preprocessing_hash: str) -> None:
    """Whether a collection is the one that a query encoder needs.

    Raises:
        IndexMismatchError: it is not; names both sides.
    """
    there = {
        "version": found.version_id,
        "dim": found.dim,
        "preprocessing": found.preprocessing_hash,
        "normalization": found.normalization,
    }
    asked = {
        "version": version_id,
        "dim": dim,
        "preprocessing": preprocessing_hash,
        "normalization": "l2",
    }
    different = [name for name in there if there[name] != asked[name]]
    if different:
        raise IndexMismatchError(
            f"the collection {collection} was made for "
            + ", ".join(f"{name} {there[name]}" for name in different)
            + ", but the query encoder has "
            + ", ".join(f"{name} {asked[name]}" for name in different)
            + f": run `immr index build --model {version_id}`"
        )
