"""Category paths as shops write them: `Home > Kitchen`, one column per level, or a list."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence

import pyarrow as pa

from immr.data.column_types import json_list


def read_paths(values: pa.Array, separator: str) -> pa.Array:
    """Paths with "/" between their levels; a "/" within a level becomes "-".

    Args:
        values: text with this separator between levels; or lists of levels, which JSON lines have as text.
        separator: such as ">".

    Raises:
        ValueError: A level is an object or a list.
    """
    cache: dict[str, str] = {}  # a shop has few categories and many items

    def path(text: object) -> str | None:
        if text is None:
            return None
        if isinstance(text, list):
            return _joined(text)
        name = str(text)
        if name not in cache:
            cache[name] = _joined(_levels(name, separator))
        return cache[name]

    return pa.array([path(text) for text in values.to_pylist()], pa.string())


def canonical_path(text: str) -> str:
    """A path without empty levels and spaces around its levels, in Unicode's composed form (NFC)."""
    levels = (level.strip() for level in unicodedata.normalize("NFC", text).split("/"))
    return "/".join(level for level in levels if level)


def joined_paths(levels: Sequence[pa.Array]) -> pa.Array:
    """Paths from one column per level; empty levels are left out."""
    rows = zip(*(level.to_pylist() for level in levels), strict=True)
    return pa.array([_joined(row) for row in rows], pa.string())


def _levels(text: str, separator: str) -> Sequence[object]:
    listed = json_list(text)
    return text.split(separator) if listed is None else listed


def _joined(levels: Sequence[object]) -> str:
    if nested := [level for level in levels if isinstance(level, dict | list)]:
        raise ValueError(
            f"a level is {json.dumps(nested[0], default=str)[:100]} instead of text: extract the text with sql"
        )
    names = (str(level).strip().replace("/", "-") for level in levels if level is not None)
    return "/".join(name for name in names if name)
