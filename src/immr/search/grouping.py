"""Groups hits by the value of an attribute, such as the variants of a product."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from immr.types import Candidate, Condition, Filters, Hit

MEMBERS = 10
FINGERPRINT_BYTES = 6  # of up to a thousand groups of a search, two coincide once in 10⁸ searches


def group_of(found: Candidate | Hit, group_by: str) -> str | None:
    """The value of the attribute; None if the item has none, and is a group of its own."""
    value = found.category if group_by == "category" else found.attributes.get(group_by)
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
    """Filters that only members of the hits' groups pass; None if no hit has a group."""
    groups = dict.fromkeys(group for hit in hits if (group := group_of(hit, group_by)) is not None)
    if not groups:
        return None
    return replace(filters, conditions=(*filters.conditions, Condition(group_by, tuple(groups))))


def without_all_members(hits: Sequence[Hit], seen: Sequence[Candidate], group_by: str) -> list[Hit]:
    """The hits of whose group fewer than `MEMBERS` others are among the most similar items that a search has seen."""
    counts = Counter(group_of(candidate, group_by) for candidate in seen)
    return [hit for hit in hits if counts[group_of(hit, group_by)] <= MEMBERS]


def with_members(
    hits: Sequence[Hit], seen: Sequence[Candidate], found: Sequence[Candidate], group_by: str
) -> list[Hit]:
    """The hits with up to `MEMBERS` other items of their groups, most similar first.

    Args:
        hits: one of each group.
        seen: the most similar items, best first; may be cut off, even in the middle of a group.
        found: members of those groups that have fewer than `MEMBERS` others in `seen`.
        group_by: a keyword attribute or `category`.
    """
    members = _by_group(found, group_by)
    members |= {group: some for group, some in _by_group(seen, group_by).items() if len(some) > MEMBERS}
    grouped = []
    for hit in hits:
        group = group_of(hit, group_by)
        others = [each for each in members.get(group, []) if each.item_id != hit.item_id]
        grouped.append(
            replace(hit, group=group, members=tuple(others[:MEMBERS] if group is not None else ()))
        )
    return grouped


def _by_group(found: Sequence[Candidate], group_by: str) -> dict[str | None, list[Candidate]]:
    groups: dict[str | None, list[Candidate]] = {}
    for candidate in found:
        groups.setdefault(group_of(candidate, group_by), []).append(candidate)
    return groups
