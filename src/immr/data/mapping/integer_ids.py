"""Ids that pandas wrote as floating-point numbers, because their column has gaps: 17.0 for 17."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pyarrow as pa
import pyarrow.compute as pc

from immr.types import MISSING_VALUES

ID_COLUMNS = ("item_id", "query_id", "user_id")
_WHOLE_NUMBER = r"^\d{1,15}(\.0)?$"  # one with more digits may be rounded
_POINT_ZERO = r"^(\d{1,15})\.0$"


class IntegerIds:
    """Reads all ids of one file or query in the same way.

    If all ids of a column are whole numbers, `17.0` is read as `17`. A shop with an id 1.5 may have another item
    called 1.0.
    """

    def __init__(self, column: Callable[[str], Iterable[pa.Array]]) -> None:
        """Look at no value yet.

        Args:
            column: All values of a column; called once for each column in which a `17.0` occurs.
        """
        self._column = column
        self._are_whole: dict[str, bool] = {}

    def read(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The same rows, with ids written as integers.

        Args:
            batch: Some rows, with the contract's columns; ids that are not text stay as they are.
        """
        for name in ID_COLUMNS:
            if batch.schema.names.count(name) != 1:
                continue
            number = batch.schema.names.index(name)
            ids = batch.column(number)
            if _is_text(ids):
                batch = batch.set_column(number, batch.schema.field(number), self.of_column(name, ids))
        return batch

    def of_column(self, name: str, ids: pa.Array) -> pa.Array:
        """Some values of one column of text."""
        if not pc.any(pc.match_substring_regex(ids, _POINT_ZERO)).as_py():
            return ids
        if name not in self._are_whole:
            self._are_whole[name] = all(_all_whole(values) for values in self._column(name))
        return pc.replace_substring_regex(ids, _POINT_ZERO, r"\1") if self._are_whole[name] else ids


def _is_text(ids: pa.Array) -> bool:
    return bool(pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type))


def _all_whole(ids: pa.Array) -> bool:
    """Whether all ids that are given are whole numbers."""
    if not _is_text(ids):
        return bool(pa.types.is_integer(ids.type) or pa.types.is_null(ids.type))
    texts = pc.utf8_trim_whitespace(ids.drop_null())
    given = texts.filter(pc.invert(pc.is_in(texts, value_set=pa.array(["", *MISSING_VALUES], texts.type))))
    return bool(pc.all(pc.match_substring_regex(given, _WHOLE_NUMBER), min_count=0).as_py())
