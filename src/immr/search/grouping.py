"""Groups hits by the value of an attribute, such as the variants of a product."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from immr.index.vector_index import Collection
from immr.types import Candidate, Condition, Filters, FloatArray, Hit

MEMBERS = 10
FINGERPRINT_BYTES = 6  # of up to a thousand groups of a search, two coincide once in 10⁸ searches


def group_of(found: Candidate | Hit, group_by: str) -> str | None:
    """The value of the attribute; None if the item has none, and is a group of its own."""
    value = (found.category or None) if group_by == "category" else found.attributes.get(group_by)
    return None if value is None else str(value)


def fingerprint(found: Candidate | Hit, group_by: str) -> bytes:
    """Identifies the group in page tokens."""
    group = group_of(found, group_by)
    text = f"item {found.item_id}" if group is None else f"group {group}"
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=FINGERPRINT_BYTES).digest()


def first_of_each(
    candidates: Sequence[Candidate], group_by: str, groups: frozenset[bytes]
) -> dict[bytes, Candidate]:
    """The first candidate of each group, by the group's fingerprint; without `groups`."""
    firsts: dict[bytes, Candidate] = {}
    seen: set[str] = set()
    for candidate in candidates:
        group = group_of(candidate, group_by)
        if group in seen:
            continue
        if group is not None:
            seen.add(group)
        mark = fingerprint(candidate, group_by)
        if mark not in groups:
            firsts[mark] = candidate
    return firsts


def groups_of(candidates: Iterable[Candidate], group_by: str) -> set[str]:
    """The groups that they are in."""
    return {group for each in candidates if (group := group_of(each, group_by)) is not None}


def without_groups(filters: Filters, group_by: str, groups: Iterable[str]) -> Filters:
    """The filters that no member of these groups passes, at least one of which is given.

    A category is a group of its own, apart from those below it.
    """
    return _and(filters, Condition(group_by, tuple(groups), negated=True, exact=True))


def with_members(
    hits: Sequence[Hit],
    group_by: str,
    collection: Collection,
    embedding_D: FloatArray | None,
    text: str,
    filters: Filters,
) -> list[Hit]:
    """The hits with up to `MEMBERS` other items of their groups, found in one request.

    Args:
        hits: one of each group.
        group_by: a keyword attribute or `category`.
        collection: of the version.
        embedding_D: (D,) unit vector of the query: members are its most similar items. None for words alone, which
            members match best.
        text: the words.
        filters: of the search, which members pass, too.

    Raises:
        IndexUnavailableError: the vector database does not answer.
    """
    groups = list(dict.fromkeys(group for hit in hits if (group := group_of(hit, group_by)) is not None))
    members = {}
    if groups:
        of_each = [_and(filters, Condition(group_by, (group,), exact=True)) for group in groups]
        found = _best_of_each(collection, embedding_D, text, of_each, MEMBERS + 1)
        members = dict(zip(groups, found, strict=True))
    grouped = []
    for hit in hits:
        group = group_of(hit, group_by)
        found_in_group = () if group is None else members[group]
        others = [each for each in found_in_group if each.item_id != hit.item_id]
        grouped.append(replace(hit, group=group, members=tuple(others[:MEMBERS])))
    return grouped


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
