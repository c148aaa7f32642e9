"""Pictures as shops write them: a list, text with a separator, or one column for each picture."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from immr.data.column_types import json_list

_BY_DEFAULT = "|"


def read_picture_lists(columns: Sequence[pa.Array], separator: str = "", prefix: str = "") -> pa.Array:
    """The pictures of each row, over all columns; a value may be a list, JSON of a list, or text.

    Args:
        columns: of one table.
        separator: between pictures in text. Between URLs it counts only before the next scheme, as URLs may have
            commas.
        prefix: put before each picture.

    Raises:
        ValueError: a list has something else than texts.
    """
    rows = zip(*(column.to_pylist() for column in columns), strict=True)
    return pa.array(
        [
            [f"{prefix}{picture}" for value in row for picture in _pictures(value, separator or _BY_DEFAULT)]
            for row in rows
        ],
        pa.list_(pa.string()),
    )


def first_pictures(lists: pa.Array) -> pa.Array:
    """The first picture of each row; null in a row without pictures."""
    return pa.array([next(iter(pictures), None) for pictures in lists.to_pylist()], pa.string())


def _pictures(value: Any, separator: str) -> list[str]:
    listed = value if isinstance(value, list) else _listed(str(value or ""), separator)
    texts = [text for text in listed if text is not None]
    if wrong := next((text for text in texts if not isinstance(text, str)), None):
        raise ValueError(
            f"a list has {json.dumps(wrong, default=str)[:100]} in place of a text: take it out with sql"
        )
    return [text.strip() for text in texts if text.strip()]


def _listed(text: str, separator: str) -> list[Any]:
    if (found := json_list(text)) is not None:
        return found
    if "://" in text:
        return re.split(rf"{re.escape(separator)}\s*(?=\w+://)", text)
    return text.split(separator)
