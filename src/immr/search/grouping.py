"""Groups hits by the value of an attribute, such as the variants of a product."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from immr.types import Candidate, Condition, Filters, Hit

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


def of_group(filters: Filters, group_by: str, group: str) -> Filters:
    """The filters that only members of a group pass. A category is a group of its own, apart from those below it."""
    return _with(filters, Condition(group_by, (group,), exact=True))


def without_groups(filters: Filters, group_by: str, groups: Collection[str]) -> Filters:
    """The filters that no member of these groups passes."""
    return _with(filters, Condition(group_by, tuple(groups), negated=True, exact=True)) if groups else filters


def with_members(
    hits: Sequence[Hit], members: Mapping[str, Sequence[Candidate]], group_by: str
) -> list[Hit]:
    """The hits with up to `MEMBERS` other items of their groups.

    Args:
        hits: one of each group.
        members: of each group, most similar first; may contain the hits.
        group_by: a keyword attribute or `category`.
    """
    grouped = []
    for hit in hits:
        group = group_of(hit, group_by)
        found = () if group is None else members[group]
        others = [each for each in found if each.item_id != hit.item_id]
        grouped.append(replace(hit, group=group, members=tuple(others[:MEMBERS])))
    return grouped


def _with(filters: Filters, condition: Condition) -> Filters:
    return replace(filters, conditions=(*filters.conditions, condition))
