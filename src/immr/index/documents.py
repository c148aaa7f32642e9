"""The documents of a collection: points built from items and their embeddings."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from immr.data.attributes import kinds_of
from immr.data.mapping.category_paths import canonical_path
from immr.errors import ContractError, IndexMismatchError
from immr.index.binding import Binding
from immr.index.recall import are_unit_rows
from immr.machine.wording import counted
from immr.storage import fingerprint
from immr.storage.scratch import rows_at
from immr.types import AttributeKind, Candidate, FloatArray, Item, ModelVersion

BUILT_IN: Mapping[str, AttributeKind] = {"category": "keyword", "price": "number"}
"""What every item has, to be filtered by and counted like a declared attribute."""

WHOLE_CATEGORY = "category"
"""The field of a payload that holds the category as the catalogue writes it; see `payload_key`."""

_FORMAT = "whole category"  # of the points; a content in another format is not reused
_POINT_NAMESPACE = uuid.UUID("6f1d2a52-8c0b-5b0e-9a55-0d1c7b4f3e21")


@dataclass(frozen=True)
class Documents:
    """Points in order of item_id, with the binding that identifies their content.

    Attributes:
        ids: (N,) of the points, see `point_id`.
        items: (N,) of the points, whose payloads are made from them in batches.
        embeddings_PD: (P, D) unit rows; those of a point are one after the other.
        first_N: (N + 1,) the first row of each point, then P.
        binding: of the content.
    """

    ids: list[int]
    items: list[Item]
    embeddings_PD: FloatArray
    first_N: npt.NDArray[np.intp]
    binding: Binding

    def embeddings(self, row: int) -> FloatArray:
        """(pictures, D) unit rows of one point."""
        return self.embeddings_PD[self.first_N[row] : self.first_N[row + 1]]

    @classmethod
    def of(
        cls,
        version: ModelVersion,
        items: Sequence[Item],
        embeddings_PD: FloatArray,
        sequence: int = 0,
        pictures_N: Sequence[int] | None = None,
    ) -> Documents:
        """Check and sort a version's documents.

        Args:
            version: The version that embedded the items.
            items: The catalogue, each item once.
            embeddings_PD: (P, D) unit rows; those of an item are one after the other.
            sequence: The last catalogue change that the items include.
            pictures_N: How many rows each item has; None: one.

        Raises:
            ContractError: There are no items, an item_id is repeated, a row is not a unit vector, or an attribute
                is text in one item and a number in another.
            IndexMismatchError: The embeddings do not have the version's dimension.
        """
        if not items:
            raise ContractError(f"no items to index for {version.id}: check the items table")
        first_N = check(version, items, embeddings_PD, pictures_N)
        order = sorted(range(len(items)), key=lambda row: items[row].item_id)
        ordered = [items[row] for row in order]
        several = len(embeddings_PD) > len(items)
        ordered_PD = np.ascontiguousarray(embeddings_PD, dtype=np.float32)
        if order != list(range(len(items))):  # a training set is in order: no copy
            rows_P = [each for row in order for each in range(first_N[row], first_N[row + 1])]
            ordered_PD = rows_at(ordered_PD, np.array(rows_P))
        ordered_first_N = np.concatenate([[0], np.cumsum(np.diff(first_N)[order])])
        # the sequence is part of the hash because a content absorbs later changes in place: one built from
        # the same items earlier may differ by now
        content = fingerprint.of_many(
            (_FORMAT, version.id, version.preprocessing_hash),
            map(payload, ordered),
            (
                fingerprint.of_bytes(ordered_PD.data),
                sequence,
                *([ordered_first_N.tolist()] if several else []),
            ),
        )
        binding = Binding(
            version.id,
            version.dim,
            version.preprocessing_hash,
            content,
            len(items),
            sequence=sequence,
            attributes=kinds_of(items),
            words=True,
            several_pictures=several,
            manifest_hash=version.manifest_hash,
        )
        ids = [point_id(item.item_id) for item in ordered]
        return cls(ids, ordered, ordered_PD, ordered_first_N, binding)


def payload_key(name: str) -> str:
    """The field of a payload that holds an attribute, the category or the price."""
    return {"category": "categories", "price": "price"}.get(name, f"attributes.{name}")


def indexed_fields(attributes: Mapping[str, AttributeKind]) -> dict[str, AttributeKind]:
    """The fields of a payload that searches filter by."""
    kinds = {payload_key(name): kind for name, kind in {**BUILT_IN, **attributes}.items()}
    return {**kinds, WHOLE_CATEGORY: "keyword"}


def number_at(payload: Mapping[str, Any], name: str) -> float:
    """The price, or a number attribute, in a payload that has it."""
    return float(payload["price"] if name == "price" else payload["attributes"][name])


def payload(item: Item) -> dict[str, Any]:
    """The fields that a hit shows, and every prefix of the category for filters."""
    attributes = {"attributes": dict(item.attributes)} if item.attributes else {}
    return {
        "item_id": item.item_id,
        "title": item.title,
        "category": item.category,
        "categories": category_prefixes(item.category),
        "image": item.image,
        "price": item.price,
        **attributes,
    }


def candidate(payload: Mapping[str, Any], cosine: float) -> Candidate:
    """The candidate in a point's payload."""
    return Candidate(
        payload["item_id"],
        cosine,
        payload["title"],
        payload["category"],
        payload["image"],
        payload.get("attributes", {}),
    )


def category_prefixes(category: str) -> list[str]:
    """`Packages/Milk` → [`Packages`, `Packages/Milk`]."""
    path = canonical_path(category)
    parts = path.split("/") if path else []
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]


def point_id(item_id: str) -> int:
    """The 128 bits of the UUID of an item's point; Qdrant accepts no other text ids.

    To write the UUIDs of a search as texts would take longer than to find its points.
    """
    return uuid.uuid5(_POINT_NAMESPACE, item_id).int


def check(
    version: ModelVersion,
    items: Sequence[Item],
    embeddings_PD: FloatArray,
    pictures_N: Sequence[int] | None = None,
) -> npt.NDArray[np.intp]:
    """Check that these embeddings fit the version's collection; for the arguments, see `Documents.of`.

    Returns:
        (N + 1,) the first row of each item, then P.

    Raises:
        ContractError: An item_id is repeated, or a row is not a unit vector.
        IndexMismatchError: The embeddings do not have the version's dimension.
    """
    counts_N = [1] * len(items) if pictures_N is None else list(pictures_N)
    if embeddings_PD.shape != (sum(counts_N), version.dim) or len(counts_N) != len(items):
        raise IndexMismatchError(
            f"{version.id} has {version.dim} dimensions and there are {counted(len(items), 'item')} with "
            f"{counted(sum(counts_N), 'picture')}, but the embeddings have shape {embeddings_PD.shape}: embed the "
            f"items with {version.id}"
        )
    if len({item.item_id for item in items}) < len(items):
        raise ContractError(f"an item_id is repeated among the items for {version.id}: run `immr govern`")
    if not are_unit_rows(embeddings_PD):
        raise ContractError(
            f"an embedding for {version.id} does not have length 1: normalize the rows before indexing"
        )
    return np.concatenate([[0], np.cumsum(counts_N)]).astype(np.intp)
