"""Pictures as shops write them: a list, text with a separator, or one column for each picture."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from immr.data.column_types import json_list
from immr.data.mapping.object_fields import expression_for, objects_in

_BY_DEFAULT = "|"
_PICTURE = re.compile(r"(?i)\.(jpe?g|png|webp|gif|bmp|avif)\b")
_ADDRESS = re.compile(r"(?i)^(\w+:)?//\S+$")
_ENOUGH = 0.5  # of the objects in the sample


def read_picture_lists(columns: Sequence[pa.Array], separator: str = "", prefix: str = "") -> pa.Array:
    """The pictures of each row, over all columns; a value may be a list, JSON of a list, or text.

    Args:
        columns: of one table.
        separator: between pictures in text. Between URLs it counts only before the next scheme, as URLs may have
            commas.
        prefix: put before each picture.

    Raises:
        ValueError: A list contains something other than text.
    """
    rows = zip(*(column.to_pylist() for column in columns), strict=True)
    return pa.array(
        [
            [f"{prefix}{picture}" for value in row for picture in _pictures(value, separator or _BY_DEFAULT)]
            for row in rows
        ],
        pa.list_(pa.string()),
    )


def expression_for_objects(column: str, values: pa.Array) -> str:
    """A DuckDB expression for pictures within objects, `[{"url": "1.jpg", "alt": "front"}]`; empty for other values.

    The values are objects or lists of objects, as they are or as JSON.
    """
    path = _path_to_pictures(objects_in(values))
    return expression_for(column, values, *path) if path else ""


def _path_to_pictures(objects: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """The first name under which most objects have a picture's file, or at least a URL, perhaps in an object."""
    names = dict.fromkeys(name for each in objects for name in each if re.fullmatch(r"\w+", name))
    for pattern in (_PICTURE, _ADDRESS):
        for name in names:
            texts = [text for each in objects if isinstance(text := each.get(name), str)]
            if sum(pattern.search(text) is not None for text in texts) >= _ENOUGH * len(objects):
                return (name,)
    for name in names:
        inner = [found for each in objects if isinstance(found := each.get(name), dict)]
        if len(inner) >= _ENOUGH * len(objects) and (path := _path_to_pictures(inner)):
            return (name, *path)
    return ()


def first_pictures(lists: pa.Array) -> pa.Array:
    """The first picture of each row; null in a row without pictures."""
    return pa.array([next(iter(pictures), None) for pictures in lists.to_pylist()], pa.string())


def _pictures(value: Any, separator: str) -> list[str]:
    listed = value if isinstance(value, list) else _listed(str(value or ""), separator)
    texts = [text for text in listed if text is not None]
    if wrong := [text for text in texts if not isinstance(text, str)]:
        raise ValueError(
            f"a list has {json.dumps(wrong[0], default=str)[:100]} instead of text: extract the text with sql"
        )
    return [text.strip() for text in texts if text.strip()]


def _listed(text: str, separator: str) -> list[Any]:
    if (found := json_list(text)) is not None:
        return found
    if "://" in text:
        return re.split(rf"{re.escape(separator)}\s*(?=\w+://)", text)
    return text.split(separator)
