"""Names of collections and their contents."""

from __future__ import annotations

_PREFIX = "immr_"
_SEPARATOR = "--"
_HASH_CHARACTERS = 12


def collection_name(version_id: str) -> str:
    """`immr-3` → `immr_immr-3`."""
    return f"{_PREFIX}{version_id}"


def content_name(collection: str, content_hash: str, suffix: str = "") -> str:
    """`immr_immr-3` and a hash → `immr_immr-3--9f3a…`, and a suffix."""
    return f"{collection}{_SEPARATOR}{content_hash[:_HASH_CHARACTERS]}{suffix}"


def collection_of(content: str) -> str:
    """`immr_immr-3--9f3a…` → `immr_immr-3`."""
    return content.rsplit(_SEPARATOR, 1)[0]


def is_content(name: str) -> bool:
    """Whether this is the name of one of IMMR's contents."""
    return name.startswith(_PREFIX) and _SEPARATOR in name


def version_of(collection: str) -> str | None:
    """`immr_immr-3` → `immr-3`; None for a collection that IMMR did not name."""
    return collection.removeprefix(_PREFIX) if collection.startswith(_PREFIX) else None
