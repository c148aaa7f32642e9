"""One column of the data contract, from one or more columns of a shop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ConfigDict, with_config

from immr.data.column_types import NO_VALUE, simplified
from immr.data.mapping.category_paths import joined_paths, read_paths
from immr.data.mapping.html_text import read_html
from immr.data.mapping.numbers import read_numbers
from immr.data.mapping.picture_lists import first_pictures, read_picture_lists
from immr.data.mapping.times import read_times
from immr.errors import ContractError
from immr.types import MISSING_VALUES

DecimalMark = Literal[".", ","]
TimeUnit = Literal["s", "ms", "us", "ns"]


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class ColumnRule:
    """Where a column's values come from, and how they are written. Exactly one of the first four is set.

    Raises:
        ValueError: several sources, or none; or options that contradict each other.
    """

    column: str = ""
    columns: tuple[str, ...] = ()  # levels of a path, joined with "/"; or one for each picture
    value: str | float | bool | None = None  # the same in every row
    sql: str = ""  # a DuckDB expression over the row
    default: str | float | bool | None = None  # where the value is missing or empty
    decimal: DecimalMark | Literal[""] = ""  # of numbers with currency and thousands separators
    times: float = 1.0  # the number is multiplied by this: 0.01 for cents
    plus: float = 0.0  # this is added to the number: 1 for positions that count from 0
    format: str = ""  # of times, as in strptime: %d.%m.%Y %H:%M
    zone: str = ""  # of times without one: Europe/Berlin
    unit: TimeUnit | Literal[""] = ""  # of times that are numbers since 1970
    separator: str = ""  # between the levels of a path, or between pictures
    prefix: str = ""  # put before the text, or before each picture
    html: bool = False  # of texts: tags are taken out
    true: tuple[str, ...] = ()  # words for true, in any case
    false: tuple[str, ...] = ()  # words for false; by default everything else

    def __post_init__(self) -> None:
        given = [self.column != "", self.columns != (), self.value is not None, self.sql != ""]
        if sum(given) != 1:
            raise ValueError(f"give one of column, columns, value and sql, not {sum(given)} of them")
        readings = [name for name in ("decimal", "unit", "separator", "true", "html") if getattr(self, name)]
        if self.format or self.zone:
            readings.append("format or zone")
        if len(readings) > 1:
            raise ValueError(f"{' and '.join(readings)} contradict each other")
        if self.prefix and (readings not in ([], ["separator"]) or self.times != 1.0 or self.plus):
            raise ValueError("prefix applies to texts and pictures only: remove it, or write the rule as sql")

    @property
    def sources(self) -> tuple[str, ...]:
        """The columns that must exist; those of an expression are not known."""
        return (self.column,) if self.column else self.columns

    def values(self, batch: pa.RecordBatch, name: str, place: str) -> pa.Array:
        """The column's values; one that the rule cannot read becomes text that no type accepts.

        Args:
            batch: a shop's rows.
            name: of the contract's column, for messages.
            place: where the rows are, for messages.

        Raises:
            ContractError: the expression is wrong, or the time zone is unknown.
        """
        if self.value is not None:
            return pa.array([self.value] * len(batch))
        try:
            found = (
                self._pictures(batch, name) if self._has_lists(name) else self._read(self._raw(batch), name)
            )
        except (pa.ArrowException, ValueError, OverflowError, KeyError, TypeError, ImportError) as error:
            raise ContractError(
                f"{place}: the mapping of {name} does not fit its values ({error}): correct it"
            ) from error
        return self._with_default(found)

    def _has_lists(self, name: str) -> bool:
        given = bool(self.columns or self.separator)
        return (name == "image" and given) or (name == "images" and (given or bool(self.prefix)))

    def _pictures(self, batch: pa.RecordBatch, name: str) -> pa.Array:
        """All pictures; of `image` the first."""
        columns = [simplified(batch.column(column)) for column in self.columns] or [self._raw(batch)]
        lists = read_picture_lists(columns, self.separator, self.prefix)
        return first_pictures(lists) if name == "image" else lists

    def _raw(self, batch: pa.RecordBatch) -> pa.Array:
        if self.sql:
            return _evaluated(self.sql, batch)
        if self.columns:
            return joined_paths([simplified(batch.column(column)) for column in self.columns])
        return simplified(batch.column(self.column))

    def _read(self, values: pa.Array, name: str) -> pa.Array:
        if self.decimal or self.times != 1.0 or self.plus:
            return read_numbers(values, self.decimal or ".", self.times, self.plus)
        if self.unit or self.format or self.zone:
            return read_times(values, self.format, self.zone, self.unit)
        if self.separator:
            return read_paths(values, self.separator)
        if self.html:
            return read_html(values)
        if self.true:
            return self._truth(values, name)
        if self.prefix:
            texts = values.cast(pa.string())
            is_empty = pc.equal(pc.utf8_trim_whitespace(texts), "")
            return pc.if_else(is_empty, texts, pc.binary_join_element_wise(self.prefix, texts, ""))
        return values

    def _truth(self, values: pa.Array, name: str) -> pa.Array:
        given = pc.utf8_trim_whitespace(values.cast(pa.string()))
        words = pc.utf8_lower(given)
        is_true, is_false = (
            pc.is_in(words, value_set=pa.array([word.lower() for word in of], pa.string()))
            for of in (self.true, self.false)
        )
        yes, no = ("1", "0") if name == "stock" else ("true", "false")
        texts = pc.if_else(is_true, yes, pc.if_else(is_false, no, given if self.false else no))
        return pc.if_else(pc.is_valid(given), texts, None)

    def _with_default(self, values: pa.Array) -> pa.Array:
        if self.default is None:
            return values
        if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
            words = pc.utf8_trim_whitespace(values)
            if isinstance(self.default, str):
                is_missing = pc.is_in(words, value_set=pa.array(["", *MISSING_VALUES]))
            else:
                is_missing = pc.is_in(pc.utf8_lower(words), value_set=pa.array(NO_VALUE))
            values = pc.if_else(is_missing, None, values)
            return pc.fill_null(values, str(self.default))
        if pa.types.is_null(values.type):
            return pa.array([self.default] * len(values))
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values), None, values)
        return pc.fill_null(values, pa.scalar(self.default).cast(values.type))


def _evaluated(expression: str, batch: pa.RecordBatch) -> pa.Array:
    """An expression's value in each row; missing where it fails."""
    import duckdb

    with duckdb.connect(config={"enable_external_access": "false", "threads": "1"}) as base:
        base.execute("SET TimeZone = 'UTC'")
        try:
            base.register("rows", pa.Table.from_batches([batch]))
            table: Any = base.sql(f"SELECT TRY({expression}) AS value FROM rows").to_arrow_table()
        except duckdb.Error as error:
            raise ValueError(f"{expression}: {str(error).splitlines()[0]}") from error
    return table["value"].combine_chunks()
