"""Converts a column from the type that a shop's file has to the contract's, value by value.

A value that does not fit becomes missing, and its row is rejected later. A column whose whole type has no
sensible reading (a list, a time as a bare number, an id as a float) raises `UnsuitableTypeError`.
"""

from __future__ import annotations

import json
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from immr.data.contract import TIMESTAMP

NOT_OF_TYPE = {
    pa.string(): "is not UTF-8 text",
    pa.float64(): "is not a number",
    pa.int64(): "is not a number",
    pa.bool_(): "is neither true nor false",
    TIMESTAMP: "is not a valid time (ISO 8601, years 1 to 9999)",
}
"""Why a row is rejected whose value in a column of this type was lost."""

NO_VALUE = ["", "na", "n/a", "#n/a", "nan", "nat", "none", "null", "\\n"]
"""Texts in lower case that stand for a missing number, time or truth value; the last is MySQL's and Hive's."""

UNREADABLE = "not readable by the mapping"
"""Stands for a value that a mapping cannot read: no type accepts it, so that its row is rejected, not left empty."""
_NO_TEXT = "\\N"  # as MySQL, Hive and PostgreSQL write a missing text

NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_DATE = r"^\d{4}-\d{2}-\d{2}$"
_TIME = r"^\d{4}-?\d{2}-?\d{2}[T ]\d{2}.*$"
TIME_WITH_ZONE = r"[Tt ]\d{2}.*([Zz]|[+-]\d{2}(:?\d{2})?)$"
_UTC_BY_NAME = r"\s*(UTC|GMT|z)$"  # BigQuery and Ruby write UTC
_ZONE_BY_NAME = r"([Zz]|[+-]\d{2}:\d{2})\[[\w/+-]+\]$"  # Java writes 12:00+02:00[Europe/Berlin]
_DECIMAL_COMMA = r"(:\d{2}),(\d+)"
_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_BYTES = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)
_LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)
UNITS_PER_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
_BEYOND_NANOSECONDS = r"^(0\d{3}|1[0-5]\d{2}|16[0-6]\d|167[0-7]|226[2-9]|22[7-9]\d|2[3-9]\d{2}|[3-9]\d{3})-"
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896  # 0001-01-01 and 9999-12-31, counted from 1970-01-01


class UnsuitableTypeError(TypeError):
    """A column of this type cannot be read; the text has the remedy."""


def convert(values: pa.Array, wanted: pa.DataType) -> tuple[pa.Array, pa.Array]:
    """Convert a column to one of the contract's types.

    Args:
        values: as read from the file.
        wanted: string, double, int64, bool or `TIMESTAMP`.

    Returns:
        The converted values (numbers as double), null if it is missing or does not fit; and which
        values were given, so that a null in the first and true in the second means "does not fit".

    Raises:
        UnsuitableTypeError: for the whole column.
    """
    values = simplified(values)
    given = pc.is_valid(values)
    values = _valid_text(values)
    if pa.types.is_floating(values.type):
        given = pc.and_(given, pc.invert(pc.fill_null(pc.is_nan(values), True)))
    elif pa.types.is_string(values.type) and wanted == pa.string():
        given = pc.and_(given, pc.fill_null(pc.not_equal(values, _NO_TEXT), True))
        values = pc.if_else(pc.fill_null(pc.equal(values, UNREADABLE), False), None, values)
    elif pa.types.is_string(values.type):
        values = pc.utf8_trim_whitespace(values)
        given = pc.and_(given, pc.invert(pc.is_in(pc.utf8_lower(values), value_set=pa.array(NO_VALUE))))
    values = pc.if_else(given, values, None)
    if values.null_count == len(values):  # a writer may give any type to a column without values
        return pa.nulls(len(values), pa.float64() if wanted == pa.int64() else wanted), given
    converter = {pa.string(): _to_text, TIMESTAMP: _to_time, pa.bool_(): _to_truth}.get(wanted, _to_number)
    return converter(values), given


def why_lost(values: pa.Array, wanted: pa.DataType) -> str:
    """The reason, put after the column's name, for rejecting rows with values that `convert` cannot read."""
    is_rule = wanted == pa.string() and pa.types.is_string(values.type)
    if is_rule and pc.any(pc.equal(values, UNREADABLE)).as_py():
        return "cannot be read as the mapping says"
    return NOT_OF_TYPE[wanted]


def is_list(kind: pa.DataType) -> bool:
    """Whether a value is a list, of any length and however Arrow stores it."""
    return any(is_a(kind) for is_a in _LISTS)


def decoded(values: pa.Array, errors: str = "strict") -> pa.Array:
    """Bytes as text, null where they are not UTF-8; also of a string column that holds other bytes."""

    def decode(content: bytes | None) -> str | None:
        try:
            return None if content is None else content.decode(errors=errors)
        except UnicodeDecodeError:
            return None

    return pa.array([decode(content) for content in values.cast(pa.binary()).to_pylist()], pa.string())


def is_utf8(values: pa.Array | pa.ChunkedArray) -> bool:
    """Whether a string column holds only UTF-8."""
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def simplified(values: pa.Array) -> pa.Array:
    """The same values without dictionaries and extension types; all text, and bytes that are text, as `string`."""
    if pa.types.is_run_end_encoded(values.type):
        values = pc.run_end_decode(values)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if isinstance(values.type, pa.UuidType):
        contents = values.storage.to_pylist()
        return pa.array([content and str(uuid.UUID(bytes=content)) for content in contents], pa.string())
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    if any(is_text(values.type) for is_text in _TEXT):
        return values.cast(pa.string())
    if any(is_bytes(values.type) for is_bytes in _BYTES):
        values = values.cast(pa.binary())
        with suppress(pa.ArrowInvalid):
            return values.cast(pa.string())
    return values


def _valid_text(values: pa.Array) -> pa.Array:
    """Null where simplified bytes or text are not UTF-8."""
    is_bytes = any(is_bytes(values.type) for is_bytes in _BYTES)
    return decoded(values) if is_bytes or not is_utf8(values) else values


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _to_text(values: pa.Array) -> pa.Array:
    kind = values.type
    if pa.types.is_string(kind):
        return values
    if pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0):
        return values.cast(pa.string())
    if pa.types.is_floating(kind):
        raise UnsuitableTypeError(
            "a floating-point number changes long ids and texts; write the column as text or integers "
            "(pandas: dtype 'string' or 'Int64')"
        )
    if is_list(kind):
        raise UnsuitableTypeError(
            "write the column as text, or map it with a separator, if it is a category or images"
        )
    if pa.types.is_struct(kind):
        raise UnsuitableTypeError("write the column as text, or take a field of it in a mapping, with sql")
    raise UnsuitableTypeError("write the column as text")


def _to_number(values: pa.Array) -> pa.Array:
    kind = values.type
    if pa.types.is_string(kind):
        fits = pc.match_substring_regex(values, NUMBER)
        return pc.if_else(fits, values, None).cast(pa.float64())
    if _is_number(kind):
        return pc.cast(values, pa.float64(), safe=False)
    raise UnsuitableTypeError("write the column as numbers")


def _to_truth(values: pa.Array) -> pa.Array:
    kind = values.type
    if pa.types.is_boolean(kind):
        return values
    if pa.types.is_string(kind):
        words = pc.utf8_lower(values)
        yes, no = (
            pc.is_in(words, value_set=pa.array(of)) for of in (["true", "1", "1.0"], ["false", "0", "0.0"])
        )
    elif _is_number(kind):
        numbers = pc.cast(values, pa.float64(), safe=False)
        yes, no = pc.equal(numbers, 1.0), pc.equal(numbers, 0.0)
    else:
        raise UnsuitableTypeError("write the column as booleans")
    return pc.if_else(pc.fill_null(yes, False), True, pc.if_else(pc.fill_null(no, False), False, None))


def _to_time(values: pa.Array) -> pa.Array:
    kind = values.type
    if pa.types.is_string(kind):
        return _parsed_times(values)
    if pa.types.is_date(kind):
        values = values.cast(pa.date32()).cast(pa.int32()).cast(pa.int64())
        return moments_of(values, 1)
    if pa.types.is_timestamp(kind):
        return moments_of(values.cast(pa.timestamp(kind.unit)).cast(pa.int64()), UNITS_PER_DAY[kind.unit])
    if _is_number(kind):
        raise UnsuitableTypeError(
            "a number has no unit (seconds or microseconds?); write timestamps, or ISO 8601 text"
        )
    raise UnsuitableTypeError("write the column as timestamps, or as ISO 8601 text")


def moments_of(counts: pa.Array, per_day: int) -> pa.Array:
    """Microseconds since 1970 from counts of another unit; null outside the years 1 to 9999."""
    first, end = _FIRST_DAY * per_day, (_LAST_DAY + 1) * per_day
    largest = 2**63 - 1  # nanoseconds do not reach that far
    fits = pc.and_(pc.greater_equal(counts, max(first, -largest)), pc.less(counts, min(end, largest)))
    counts = pc.if_else(fits, counts, None)
    microseconds = UNITS_PER_DAY["us"]
    if per_day <= microseconds:
        counts = pc.multiply(counts, microseconds // per_day)
    else:
        counts = pc.divide(counts, per_day // microseconds)
    return counts.cast(pa.timestamp("us")).cast(TIMESTAMP)


def json_list(text: str) -> list[Any] | None:
    """The list that a text is in JSON, as CSV and databases write lists; None if it is something else."""
    found = json_nested(text)
    return found if isinstance(found, list) else None


def json_nested(text: str) -> list[Any] | dict[str, Any] | None:
    """The list or object that a text is in JSON; None if it is something else."""
    if text.lstrip().startswith(("[", "{")):
        with suppress(ValueError, RecursionError):
            found: list[Any] | dict[str, Any] = json.loads(text)
            return found
    return None


def iso_times(texts: pa.Array) -> pa.Array:
    """The ways in which databases and languages vary ISO 8601, written as pandas reads it."""
    for pattern, instead in (
        (r"t(\d{2})", r"T\1"),
        (_UTC_BY_NAME, "Z"),
        (_ZONE_BY_NAME, r"\1"),
        (_DECIMAL_COMMA, r"\1.\2"),
    ):
        texts = pc.replace_substring_regex(texts, pattern, instead)
    return texts


def _parsed_times(values: pa.Array) -> pa.Array:
    import pandas as pd

    values = iso_times(values)
    is_date, is_time, has_zone = (
        pc.match_substring_regex(values, pattern) for pattern in (_DATE, _TIME, TIME_WITH_ZONE)
    )
    # pandas reads a time without a zone in the zone of the value before it
    in_utc = pc.if_else(has_zone, values, pc.binary_join_element_wise(values, "Z", ""))
    at_midnight = pc.binary_join_element_wise(values, "T00:00Z", "")
    texts = pc.if_else(is_date, at_midnight, pc.if_else(is_time, in_utc, None))
    moments = pd.to_datetime(texts.to_pandas(), utc=True, errors="coerce", format="ISO8601")
    return pc.coalesce(pa.array(moments.dt.as_unit("us"), TIMESTAMP, from_pandas=True), distant_times(texts))


def distant_times(texts: pa.Array) -> pa.Array:
    """Times before 1678 or after 2261, such as 9999-12-31, which pandas cannot read from text; null for all others.

    Times without a zone are UTC.
    """
    is_far = pc.fill_null(pc.match_substring_regex(texts, _BEYOND_NANOSECONDS), False)
    if not pc.any(is_far).as_py():
        return pa.nulls(len(texts), TIMESTAMP)
    return pa.array([_moment(text) for text in pc.if_else(is_far, texts, None).to_pylist()], TIMESTAMP)


def _moment(text: str | None) -> datetime | None:
    try:
        found = None if text is None else datetime.fromisoformat(text)
        return found and (found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC))
    except (ValueError, OverflowError):  # in UTC, it may be in the year 0 or 10000
        return None
