"""Declared attributes of items: columns of a shop's own, which searches can filter by and count.

`attributes.toml` beside the tables declares them: `brand = "keyword"`, `tags = "keywords"` for a list, or
`size = "number"`. In IMMR's tables they are one column `attributes`, a JSON object for each item, without the
values that are missing.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from immr.data.column_types import UnsuitableTypeError, convert, is_list, why_lost
from immr.data.list_columns import lists
from immr.data.pictures import additional_pictures
from immr.errors import ContractError
from immr.types import MISSING_VALUES, AttributeKind, AttributeValue, Item

if TYPE_CHECKING:
    import pandas as pd

DECLARATION = "attributes.toml"
COLUMN = "attributes"
CLASS = "class"
"""The attribute that governance adds: items of one class are one thing to buy."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_TYPES = {"keyword": pa.string(), "number": pa.float64()}
_A = {"keyword": "a keyword", "keywords": "a list of keywords", "number": "a number"}


def declared(content: bytes, path: str) -> dict[str, AttributeKind]:
    """The attributes that a declaration declares, in its order.

    Args:
        content: of `attributes.toml`.
        path: of that file, for messages.

    Raises:
        ContractError: the file is not TOML, or declares an invalid name or kind.
    """
    try:
        kinds = tomllib.loads(content.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ContractError(f'{path} is not TOML ({error}): write lines like brand = "keyword"') from error
    taken = {CLASS, *(field.name for field in fields(Item))}
    for name, kind in kinds.items():
        if not _NAME.fullmatch(name) or name in taken:
            raise ContractError(
                f"{path}: {name!r} cannot be an attribute: use letters, digits and _, and no name of the contract"
            )
        if kind not in get_args(AttributeKind):
            raise ContractError(
                f'{path}: {name} is {kind!r}: declare it as "keyword", "keywords" or "number"'
            )
    return cast("dict[str, AttributeKind]", kinds)


def pack(
    batch: pa.RecordBatch, kinds: Mapping[str, AttributeKind], place: str
) -> tuple[pd.Series[str], dict[str, npt.NDArray[np.bool_]]]:
    """The column `attributes` of a chunk.

    Args:
        batch: with the contract's columns; a declared column may be missing.
        kinds: the declared attributes.
        place: where the rows are, for messages.

    Returns:
        A JSON object for each row; and reason → rows whose value does not fit, only reasons that occur.

    Raises:
        ContractError: a whole column is of a type that cannot be read.
    """
    import pandas as pd

    columns: dict[str, list[Any]] = {}
    unreadable = {}
    for name, kind in kinds.items():
        if name not in batch.schema.names:
            continue
        if kind == "keywords":
            columns[name], lost = _keywords(batch.column(name), name, place)
            if lost.any():
                unreadable[f"{name} is not a list of texts"] = lost
            continue
        try:
            converted, given = convert(batch.column(name), _TYPES[kind])
        except (UnsuitableTypeError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            hint = f', or declare {name} as "keywords"' if is_list(batch.column(name).type) else ""
            raise ContractError(
                f"{place}: column {name} holds {batch.column(name).type} and should hold a {kind}: {error}{hint}"
            ) from error
        columns[name] = converted.to_pylist()
        lost = np.array(given.to_pylist(), dtype=bool) & np.array([value is None for value in columns[name]])
        infinite = np.array([isinstance(value, float) and math.isinf(value) for value in columns[name]])
        for rows, reason in ((lost, why_lost(batch.column(name), _TYPES[kind])), (infinite, "is not finite")):
            if rows.any():
                unreadable[f"{name} {reason}"] = rows
    rows_of_values = zip(*columns.values(), strict=True)
    packed = [_packed(dict(zip(columns, values, strict=True))) for values in rows_of_values]
    texts = packed or ["{}"] * len(batch)
    return pd.Series(texts, dtype=pd.ArrowDtype(pa.string())), unreadable


def item_of(row: Mapping[str, Any]) -> Item:
    """An item from a row of IMMR's tables."""
    attributes = json.loads(row.get(COLUMN) or "{}")
    pictures = additional_pictures.unpack(row.get(additional_pictures.COLUMN))
    return Item(**{**row, COLUMN: attributes, additional_pictures.COLUMN: pictures})


def kind_of(value: AttributeValue) -> AttributeKind:
    """The kind of an attribute that has this value."""
    if isinstance(value, list):
        return "keywords"
    return "keyword" if isinstance(value, str) else "number"


def kinds_of(items: Sequence[Item]) -> dict[str, AttributeKind]:
    """The attributes that occur among these items, sorted by name.

    Raises:
        ContractError: an attribute is of one kind in one item and of another in the next.
    """
    kinds: dict[str, AttributeKind] = {}
    for item in items:
        for name, value in item.attributes.items():
            kind = kind_of(value)
            if kinds.setdefault(name, kind) != kind:
                raise ContractError(
                    f"{name} is {_A[kind]} in {item.item_id} and {_A[kinds[name]]} in other items: declare one "
                    f"kind in {DECLARATION}, and load the items again"
                )
    return dict(sorted(kinds.items()))


def _keywords(
    values: pa.Array, name: str, place: str
) -> tuple[list[list[str] | None], npt.NDArray[np.bool_]]:
    """Each row's texts, each once; and the rows that hold something else."""
    found = [[each for each in row or [] if each is not None] for row in lists(values, name, "texts", place)]
    lost = np.array([not all(map(_is_keyword, row)) for row in found], dtype=bool)
    texts = [list(dict.fromkeys(map(_text, row))) for row in found]
    return [[text for text in row if text and text not in MISSING_VALUES] or None for row in texts], lost


def _is_keyword(value: object) -> bool:
    """Also a number, such as a size, which Parquet and JSON may hold as one."""
    if isinstance(value, bool):
        return False
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def _text(value: object) -> str:
    return _plain(str(int(value) if isinstance(value, float) and value.is_integer() else value))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip())


def _packed(values: Mapping[str, AttributeValue | None]) -> str:
    present = {
        name: _plain(value) if isinstance(value, str) else value
        for name, value in values.items()
        if value is not None and (text := str(value).strip()) and text not in MISSING_VALUES
    }
    return json.dumps(present, ensure_ascii=False)
