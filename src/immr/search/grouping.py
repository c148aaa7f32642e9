"""Groups hits by the value of an attribute, such as the variants of a product."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from immr.types import Candidate, Condition, Filters, Hit

MEMBERS = 10
FINGERPRINT_BYTES = 6  # of up to a thousand groups of a search, two coincide once in 10⁸ searches


def group_of(found: Candidate | Hit, group_by: str) -> str | None:
    """The value of the attribute; None if the item has none, and is a group of its own."""
    value = found.category if group_by == "category" else found.attributes.get(group_by)
    return None if value is None else str(value)


def fingerprint(hit: Hit, group_by: str) -> bytes:
    """Identifies the hit's group in page tokens."""
    group = group_of(hit, group_by)
    text = f"item {hit.item_id}" if group is None else f"group {group}"
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=FINGERPRINT_BYTES).digest()


def of_groups(filters: Filters, group_by: str, hits: Sequence[Hit]) -> Filters | None:
    """Filters that only members of the hits' groups pass; None if no hit has a group."""
    groups = dict.fromkeys(group for hit in hits if (group := group_of(hit, group_by)) is not None)
    if not groups:
        return None
    return replace(filters, conditions=(*filters.conditions, Condition(group_by, tuple(groups))))


def with_members(hits: Sequence[Hit], found: Sequence[Candidate], group_by: str) -> list[Hit]:
    """The hits with up to `MEMBERS` other items of their groups, in the order of `found`."""
    members: dict[str | None, list[Candidate]] = {}
    for candidate in found:
        members.setdefault(group_of(candidate, group_by), []).append(candidate)
    grouped = []
    for hit in hits:
        group = group_of(hit, group_by)
        others = [each for each in members.get(group, []) if each.item_id != hit.item_id]
        grouped.append(
            replace(hit, group=group, members=tuple(others[:MEMBERS] if group is not None else ()))
        )
    return grouped
