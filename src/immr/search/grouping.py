"""Groups hits by the value of an attribute, such as the variants of a product."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from immr.types import Candidate, Condition, Filters, Hit

MEMBERS = 10
FINGERPRINT_BYTES = 6  # of up to a thousand groups of a search, two coincide once in 10⁸ searches

Members = Mapping[str | None, Sequence[Candidate]]
"""Items by their group."""


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


def of_groups(filters: Filters, group_by: str, hits: Sequence[Hit]) -> Filters | None:
    """Filters that only members of the hits' groups pass; None if no hit has a group.

    A category is a group of its own, apart from those below it.
    """
    groups = dict.fromkeys(group for hit in hits if (group := group_of(hit, group_by)) is not None)
    if not groups:
        return None
    return replace(filters, conditions=(*filters.conditions, Condition(group_by, tuple(groups), exact=True)))


def members_of(found: Sequence[Candidate], group_by: str, is_all: bool) -> Members:
    """The groups of the most similar items, each with all the members that a hit can show.

    Args:
        found: the most similar items, best first.
        group_by: a keyword attribute or `category`.
        is_all: whether no other item is in any of their groups; else only groups with enough members are returned.
            Those may crowd out the others, which are to be searched for without them.
    """
    groups: dict[str | None, list[Candidate]] = {}
    for candidate in found:
        groups.setdefault(group_of(candidate, group_by), []).append(candidate)
    return groups if is_all else {group: some for group, some in groups.items() if len(some) > MEMBERS}


def all_members(
    hits: Sequence[Hit],
    group_by: str,
    members: Members,
    filters: Filters,
    search: Callable[[Filters, int], Sequence[Candidate]],
    limit: int,
) -> Members:
    """The members of every hit's group, with one search if larger groups do not crowd out others, else with more.

    Each search completes at least one group.

    Args:
        hits: one of each group.
        group_by: a keyword attribute or `category`.
        members: groups that need no search, see `members_of`.
        filters: of the whole search.
        search: the most similar items that pass filters, at most so many.
        limit: `search` never returns more; with more groups than fit, it is called for some of them at a time.
    """
    of_each = 2 * MEMBERS  # of so many for each group, at least one group has enough members
    while True:
        groups = {group_of(hit, group_by): hit for hit in hits}
        rest = [hit for group, hit in groups.items() if group is not None and group not in members]
        rest = rest[: max(1, limit // of_each)]
        narrowed = of_groups(filters, group_by, rest)
        if narrowed is None:
            return members
        found = search(narrowed, of_each * len(rest))
        is_all = len(found) < of_each * len(rest)
        more = members_of(found, group_by, is_all)
        if is_all:  # also those whose items were deleted meanwhile
            more = {group_of(hit, group_by): () for hit in rest} | dict(more)
        is_done = not more.keys() - members.keys()
        members = {**more, **members}
        if is_done:
            return members


def with_members(hits: Sequence[Hit], members: Members, group_by: str) -> list[Hit]:
    """The hits with up to `MEMBERS` other items of their groups.

    Args:
        hits: one of each group.
        members: most similar first; may contain the hits.
        group_by: a keyword attribute or `category`.
    """
    grouped = []
    for hit in hits:
        group = group_of(hit, group_by)
        others = [each for each in members.get(group, []) if each.item_id != hit.item_id]
        grouped.append(
            replace(hit, group=group, members=tuple(others[:MEMBERS] if group is not None else ()))
        )
    return grouped
