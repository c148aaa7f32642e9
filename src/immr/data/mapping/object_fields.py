"""A field of the objects in a column: `[{"name": "Fruit"}]`, or `{"de": "Apfel", "en": "Apple"}`."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa

from immr.data.column_types import json_nested


def objects_in(values: pa.Array) -> list[dict[str, Any]]:
    """The objects in a column whose values are objects or lists of objects, as they are or as JSON.

    Returns:
        All of them; none if any value is something else.
    """
    each_one = [each for value in _nested(values) for each in (value if isinstance(value, list) else [value])]
    objects = [each for each in each_one if isinstance(each, dict)]
    return objects if len(objects) == len(each_one) else []


def expression_for(column: str, values: pa.Array, *fields: str) -> str:
    """A DuckDB expression for a field of the objects in a column, or for a field of a field.

    Args:
        column: the shop's.
        values: of it, see `objects_in`.
        fields: of the objects: one, or the way to one within it.
    """
    quoted = _quoted(column)
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        path = "$[*]" if any(isinstance(value, list) for value in _nested(values)) else "$"
        keys = ".".join(field if re.fullmatch(r"\w+", field) else f'"{field}"' for field in fields)
        return f"json_extract_string({quoted}, '{path}.{keys}')"
    name = ".".join(map(_quoted, fields))
    if pa.types.is_struct(values.type):
        return f"{quoted}.{name}"
    return f"[each.{name} FOR each IN {quoted}]"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def listed(values: pa.Array) -> list[Any]:
    """The values in Python; none if it cannot express one, such as a time of an unknown zone or of the year 20000."""
    try:
        return list(values.to_pylist())
    except (ValueError, OverflowError, KeyError):  # ValueError: not UTF-8; KeyError: an unknown zone
        return []


def _nested(values: pa.Array) -> list[Any]:
    """Lists and objects; None for what is neither."""
    return [
        value if isinstance(value, list | dict) else json_nested(str(value))
        for value in listed(values)
        if value
    ]
