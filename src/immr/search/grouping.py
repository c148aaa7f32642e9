"""Groups hits by the value of an attribute, such as the variants of a product."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from immr.index.vector_index import Collection
from immr.types import Candidate, Condition, Filters, FloatArray, Hit

MOST_MEMBERS = 10
DEFAULT_MEMBERS = 3
FINGERPRINT_BYTES = 6  # of up to a thousand groups of a search, two coincide once in 10⁸ searches


class Group(NamedTuple):
    """The items with one value of an attribute, or an item without the attribute."""

    value: str | None
    item_id: str = ""

    def fingerprint(self) -> bytes:
        """Identifies the group in page tokens."""
        text = f"item {self.item_id}" if self.value is None else f"group {self.value}"
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=FINGERPRINT_BYTES).digest()


def group_of(found: Candidate | Hit, group_by: str) -> Group:
    """The group that an item is in."""
    value = (found.category or None) if group_by == "category" else found.attributes.get(group_by)
    return Group(None, found.item_id) if value is None else Group(str(value))


def rows_of_groups(candidates: Sequence[Candidate], group_by: str) -> dict[Group, list[int]]:
    """The rows of the candidates of each group; groups and rows are in order of the candidates."""
    rows_of: dict[Group, list[int]] = {}
    for row, candidate in enumerate(candidates):
        rows_of.setdefault(group_of(candidate, group_by), []).append(row)
    return rows_of


def first_of_each(candidates: Sequence[Candidate], group_by: str) -> dict[Group, Candidate]:
    """The first candidate of each group, in order."""
    return {group: candidates[rows[0]] for group, rows in rows_of_groups(candidates, group_by).items()}


def without_groups(filters: Filters, group_by: str, groups: Iterable[Group]) -> Filters:
    """The filters that no member of these groups passes. Items that are groups of their own still pass.

    A category is a group of its own, apart from those below it.
    """
    values = tuple(group.value for group in groups if group.value is not None)
    return _and(filters, Condition(group_by, values, negated=True, exact=True)) if values else filters


def with_members(
    hits: Sequence[Hit],
    group_by: str,
    most: int,
    known: Mapping[Group, Sequence[Candidate]],
    collection: Collection,
    embedding_D: FloatArray | None,
    text: str,
    filters: Filters,
) -> list[Hit]:
    """The hits with other items of their groups. One request finds those that are not known.

    Args:
        hits: one of each group.
        group_by: a keyword attribute or `category`.
        most: members of a hit.
        known: the best items of groups, best first. Those with no more than `most` are searched for.
        collection: of the version.
        embedding_D: (D,) unit vector of the query: members are its most similar items. None for words alone, which
            members match best.
        text: the words.
        filters: of the search, which members pass, too.

    Raises:
        IndexUnavailableError: the vector database does not answer.
    """
    group_of_hit = [group_of(hit, group_by) for hit in hits]
    best_of = dict(known)
    unknown = [
        group for group in group_of_hit if group.value is not None and len(best_of.get(group, ())) <= most
    ]
    if unknown and most:
        of_each = [_and(filters, Condition(group_by, (group.value or "",), exact=True)) for group in unknown]
        found = _best_of_each(collection, embedding_D, text, of_each, most + 1)
        best_of |= dict(zip(unknown, found, strict=True))
    return [
        replace(hit, group=group.value, members=_others(best_of.get(group, ()), hit)[:most])
        for hit, group in zip(hits, group_of_hit, strict=True)
    ]


def _others(items: Sequence[Candidate], hit: Hit) -> tuple[Candidate, ...]:
    return tuple(each for each in items if each.item_id != hit.item_id)


def _best_of_each(
    collection: Collection, embedding_D: FloatArray | None, text: str, filters: Sequence[Filters], k: int
) -> list[list[Candidate]]:
    """For each of the filters, the k best items."""
    if embedding_D is None:
        cosines = [dict.fromkeys(ids, 0.0) for ids in collection.matching_ids(text, k, filters)]
    else:
        cosines = collection.similar_ids(embedding_D, k, filters)
    read = collection.candidates({id: cosine for each in cosines for id, cosine in each.items()})
    return [[read[id] for id in each if id in read] for each in cosines]  # others were deleted meanwhile


def _and(filters: Filters, condition: Condition) -> Filters:
    return replace(filters, conditions=(*filters.conditions, condition))
