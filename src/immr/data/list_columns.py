"""Columns of lists: a list type, JSON arrays, or text in which `|` separates the values."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from immr.data.column_types import UnsuitableTypeError, convert, is_list, json_nested
from immr.errors import ContractError

_SEPARATOR = "|"


def lists(values: pa.Array, column: str, content: str, place: str) -> list[list[Any] | None]:
    """Each row's list; a text that is JSON is one already, because lists in JSON lines are read as text.

    Args:
        values: as read from the file.
        column: its name, for messages.
        content: what the lists should contain, for messages.
        place: where the rows are, for messages.

    Raises:
        ContractError: the whole column is of a type that cannot be read.
    """
    if is_list(values.type):
        found: list[list[Any] | None] = values.to_pylist()
        return found
    try:
        texts, _ = convert(values, pa.string())
    except UnsuitableTypeError as error:
        raise ContractError(
            f"{place}: column {column} holds {values.type} and should hold lists of {content}, or text with "
            f"{_SEPARATOR} between them: {error}"
        ) from error
    return [None if text is None else _split(text) for text in texts.to_pylist()]


def _split(text: str) -> list[Any]:
    found = json_nested(text)
    if isinstance(found, dict):
        return [found]
    return text.split(_SEPARATOR) if found is None else found
