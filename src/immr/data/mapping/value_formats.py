"""How a column's values are written, as a sample shows it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from immr.data.column_types import UnsuitableTypeError, convert, is_list
from immr.data.contract import TIMESTAMP
from immr.data.mapping.column_rule import ColumnRule, DecimalMark
from immr.data.mapping.html_text import HTML
from immr.data.mapping.object_fields import expression_for, listed, objects_in
from immr.data.mapping.picture_lists import expression_for_objects
from immr.data.mapping.times import FORMATS
from immr.errors import ContractError

Words = tuple[str, ...]
_ENOUGH = 0.5  # of the values in the sample must be readable
_SEPARATORS = (" > ", ">", " » ", " / ", " | ", "|", "; ", "::")
_TRUTH = (
    *(
        (("yes",), ("no",)),
        (("y",), ("n",)),
        (("ja",), ("nein",)),
        (("j",), ("n",)),
        (("wahr",), ("falsch",)),
    ),
    *((("t",), ("f",)), (("x",), ("",)), (("oui",), ("non",)), (("sí",), ("no",)), (("si",), ("no",))),
    (("はい",), ("いいえ",)),
)
_IN_STOCK = (  # what can be ordered is not sold out
    *((("true",), ("false",)), (("available",), ("unavailable",))),
    (("in stock", "preorder", "backorder", "limited availability"), ("out of stock",)),
    (("in_stock", "preorder", "backorder", "limited_availability"), ("out_of_stock",)),
    (("instock", "onbackorder", "preorder", "backorder"), ("outofstock", "soldout", "discontinued")),
    *((("verfügbar",), ("nicht verfügbar",)), (("lieferbar",), ("nicht lieferbar",))),
)
_NAMES_OF_CATEGORIES = ("name", "title", "label")
_PREFERRED = 1e-6
_PICTURE_SEPARATORS = (",", ";")
_SUFFIX = r"(jpe?g|png|webp|gif|bmp|avif)"
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_FIRST_DAY, _LAST_DAY = 36_526, 73_051  # 2000 and 2100, as spreadsheets count
_EARLIEST, _LATEST = 946_684_800, 4_102_444_800  # 2000 and 2100, in seconds


class Reading(NamedTuple):
    """How a column is read."""

    rule: ColumnRule
    note: str  # a question that remains; empty if there is none
    fits: bool  # whether most values can be read


def reading_of(name: str, kind: pa.DataType, column: str, sample: pa.RecordBatch | None) -> Reading:
    """The reading under which most values fit.

    Args:
        name: of the contract's column.
        kind: its type.
        column: the shop's column.
        sample: some of the shop's rows; None if they cannot be read.
    """
    plain = ColumnRule(column=column)
    if sample is None or not len(sample) or column not in sample.schema.names:
        return Reading(plain, "", True)
    values = sample.column(column)
    candidates = [plain, *_readings(name, kind, column, values)]
    shares = [_readable(rule, sample, kind, name) for rule in candidates]
    if name == "position" and _counts_from_zero(values):
        note = f"position: {column!r} counts from 0, so 1 is added"
        return Reading(ColumnRule(column=column, plus=1.0), note, True)
    best = max(range(len(candidates)), key=lambda at: (shares[at], -at))
    if shares[best] < _ENOUGH:
        shown = _first(values)
        note = f"{name}: few values of {column!r} can be read, such as {shown!r}; is it the right column?"
        return Reading(plain, note, False)
    chosen = candidates[best]
    readable = {rule.decimal: share for rule, share in zip(candidates, shares, strict=True) if rule.decimal}
    if chosen.decimal and len({*readable.values()}) == 1 and (unclear := _thousands(values)):
        other = "," if chosen.decimal == "." else "."
        note = f"{name}: {unclear!r} is read as thousands; if it is a fraction, set decimal = {other!r}"
        return Reading(chosen, note, True)
    return Reading(chosen, _question(chosen, name, kind, values), True)


def _readings(name: str, kind: pa.DataType, column: str, values: pa.Array) -> list[ColumnRule]:
    if kind in (pa.float64(), pa.int64()):
        thousands = _thousands(values) or ""
        marks: tuple[DecimalMark, ...] = (".", ",") if "," in thousands else (",", ".")
        words = [pair for pair in (*_TRUTH, *_IN_STOCK) if "" not in pair[1]]
        truth = _truth(column, values, words) if name == "stock" else []
        return [*(ColumnRule(column=column, decimal=mark) for mark in marks), *truth]
    if kind == pa.bool_():
        return _truth(column, values, _TRUTH)
    if kind == TIMESTAMP:
        counted = [ColumnRule(column=column, unit=unit) for unit in _units(values)]
        by_text = [ColumnRule(column=column, format=pattern) for pattern in FORMATS]
        return [*counted, *by_text, *_days_of_spreadsheets(column, values)]
    if name in ("title", "description", "category") and (field := _name_in(values, name)):
        return [ColumnRule(sql=expression_for(column, values, field), separator=">" * (name == "category"))]
    if name == "category":
        used = [each for each in _SEPARATORS if _holds(values, each)]
        return [ColumnRule(column=column, separator=(each.strip())) for each in used[:1]]
    if name in ("image", "images"):
        return picture_rules(column, values, name)
    if name in ("title", "description") and _matches(values, HTML):
        return [ColumnRule(column=column, html=True)]
    return []


def _name_in(values: pa.Array, name: str) -> str:
    """The field to take from objects: a category's name, or the text in one of several languages; else empty."""
    objects = objects_in(values)
    names = dict.fromkeys(field for each in objects for field in each)
    if name == "category":
        return next((field for field in _NAMES_OF_CATEGORIES if field in names), "")
    return next((field for field in names if all(isinstance(each.get(field), str) for each in objects)), "")


def _days_of_spreadsheets(column: str, values: pa.Array) -> list[ColumnRule]:
    """Days since 1899-12-30, with a fraction: how a spreadsheet exports a date that lost its format."""
    numbers = pc.replace_substring(values, ",", ".") if _is_text(values) else values
    days = (
        convert(numbers, pa.float64())[0] if _is_text(values) or pa.types.is_floating(values.type) else None
    )
    if days is None or not pc.all(pc.and_(pc.greater(days, _FIRST_DAY), pc.less(days, _LAST_DAY))).as_py():
        return []
    quoted = '"' + column.replace('"', '""') + '"'
    number = f"TRY_CAST(replace({quoted}::VARCHAR, ',', '.') AS DOUBLE)"
    return [ColumnRule(sql=f"to_timestamp(round(({number} - 25569) * 86400))")]


def is_blank(values: pa.Array) -> bool:
    """Whether every one of these values is missing or blank."""
    if values.null_count == len(values) or not _is_text(values):
        return bool(values.null_count == len(values))
    return bool(pc.all(pc.equal(pc.utf8_trim_whitespace(values), "")).as_py())


def has_no_pictures(values: pa.Array) -> bool:
    """Whether every one of these values is missing, blank or an empty list."""
    return not any(
        each if isinstance(each, list) else str(each or "").strip(" []") for each in listed(values)
    )


def picture_rules(column: str, values: pa.Array, name: str = "images") -> list[ColumnRule]:
    """How IMMR finds the pictures in these values, if it does not by itself: at most one rule.

    Args:
        column: the shop's.
        values: of it.
        name: `images`, or `image`, which is a single one unless a rule has a separator.
    """
    if expression := expression_for_objects(column, values):
        return [ColumnRule(sql=expression, separator=",")]
    found = _picture_separators(values)
    if name == "image" and _matches(values, rf"(?i)\.{_SUFFIX}\S*\s*\|\s*\S+\.{_SUFFIX}"):
        found = [*found, "|"]
    prefix = "https:" if _matches(values, r"^\s*//[\w-]+(\.[\w-]+)+/") else ""  # as HTML writes addresses
    return [ColumnRule(column=column, separator="".join(found[:1]), prefix=prefix)] if found or prefix else []


def _picture_separators(values: pa.Array) -> list[str]:
    """What is between the pictures in these values, if IMMR does not read it by itself: at most one sign.

    It is a comma for lists, too: for them any separator will do.
    """
    if is_list(values.type) or _matches(values, r"^\s*\["):
        return [","]
    found = (
        each
        for each in _PICTURE_SEPARATORS
        if _matches(values, rf"(?i)\.{_SUFFIX}\S*{each}\s*\S+\.{_SUFFIX}")
    )
    spaces = [" "] if _matches(values, rf"(?i)\.{_SUFFIX}\S*\s+\w+://") else []
    return [*found, *spaces][:1]


def _matches(values: pa.Array, pattern: str) -> bool:
    """Whether any value is text that matches."""
    if not _is_text(values):
        return False
    return bool(pc.any(pc.match_substring_regex(values, pattern)).as_py())


def _truth(column: str, values: pa.Array, pairs: Sequence[tuple[Words, Words]]) -> list[ColumnRule]:
    """The words for true and false that the column has, if it has only such words."""
    words = {str(word).strip().lower() for word in listed(values) if word is not None}
    fitting = [pair for pair in pairs if words <= {*pair[0], *pair[1]}] or [
        pair for pair in pairs if words - {""} <= {*pair[0], *pair[1]}
    ]
    return [ColumnRule(column=column, true=yes, false=no) for yes, no in fitting[:1]]


def unclear_price(batch: pa.RecordBatch, names: Collection[str], mapped: Collection[str]) -> str:
    """A sentence, if a price has one point and three digits behind it; empty if none has.

    Args:
        batch: rows with the contract's columns.
        names: of the contract's columns.
        mapped: those with a rule, which says how numbers are written.
    """
    found = _thousands(batch.column("price")) if "price" in names and "price" not in mapped else None
    if found is None or "," in found:  # with a comma, the row is rejected
        return ""
    return (
        f'{found!r} in price is read as a fraction: if it means thousands, add decimal = "," to the mapping'
    )


def _thousands(values: pa.Array) -> str | None:
    """The first number with one mark and three digits behind it, such as 1,299: a thousand, or a fraction."""
    if not _is_text(values):
        return None
    unclear = pc.match_substring_regex(values, r"(^|[^\d.,])\d{1,3}[.,]\d{3}([^\d.,]|$)")
    found = values.filter(pc.fill_null(unclear, False))
    return str(found[0].as_py()) if len(found) else None


def _readable(rule: ColumnRule, sample: pa.RecordBatch, kind: pa.DataType, name: str) -> float:
    """The share of values that the rule reads, of those that are there."""
    try:
        values = rule.values(sample, name, "the sample")
        if is_list(values.type) and name in ("image", "images"):
            return 1.0 + _PREFERRED
        converted, given = convert(values, kind)
    except (UnsuitableTypeError, ContractError, pa.ArrowException):
        return 0.0
    there = pc.sum(given).as_py() or 0
    read = len(converted) - converted.null_count
    # any text is a category, a picture or a title
    by_field = rule.sql != "" and kind == pa.string()
    bonus = _PREFERRED if rule.separator or rule.html or rule.prefix or by_field else 0.0
    return read / there + bonus if there else 1.0


def _is_text(values: pa.Array) -> bool:
    return bool(pa.types.is_string(values.type) or pa.types.is_large_string(values.type))


def _counts_from_zero(positions: pa.Array) -> bool:
    try:
        return bool(pc.min(convert(positions, pa.int64())[0]).as_py() == 0)
    except (UnsuitableTypeError, pa.ArrowException):
        return False


def _units(values: pa.Array) -> list[Any]:
    """The unit under which numbers are times of this century."""
    try:
        numbers = convert(values, pa.float64())[0]
    except (UnsuitableTypeError, pa.ArrowException):
        return []
    middle = pc.quantile(numbers, 0.5)[0].as_py()
    if middle is None:
        return []
    return [unit for unit, per_s in _UNITS.items() if _EARLIEST <= middle / per_s < _LATEST]


def _holds(values: pa.Array, separator: str) -> bool:
    if is_list(values.type):
        return separator == ">"
    try:
        texts = pc.cast(values, pa.string())
    except pa.ArrowException:  # a time of an unknown zone
        return False
    listed = separator == ">" and pc.any(pc.starts_with(texts, "[")).as_py()
    return bool(listed or pc.any(pc.match_substring(texts, separator)).as_py())


def _question(rule: ColumnRule, name: str, kind: pa.DataType, values: pa.Array) -> str:
    if rule.sql and name in ("title", "description", "category"):
        return f"{name}: it has objects, of which one field is read: is it the right one?"
    if kind == TIMESTAMP and rule.sql:
        return f"{name}: {_first(values)!r} is read as days since 1899-12-30 in UTC, as spreadsheets count"
    if kind == TIMESTAMP and not rule.unit and not rule.zone and _is_naive(values):
        return f'{name}: its times have no zone and are read as UTC; if they are local, add zone = "Europe/Berlin"'
    if name == "price" and "cent" in rule.column.lower():
        return f"price: if {rule.column!r} counts cents, add times = 0.01"
    if name == "price" and len(currencies := _currencies(values)) > 1:
        return (
            f"price: it has several currencies ({', '.join(currencies)}), of which only the numbers are read"
        )
    if rule.format.startswith(("%d/%m", "%m/%d")):
        return f"{name}: {_first(values)!r} is read as {rule.format}; check day and month"
    return ""


def _currencies(prices: pa.Array) -> list[str]:
    """The codes and signs in prices that are text."""
    if not _is_text(prices):
        return []
    found = pc.struct_field(pc.extract_regex(prices, r"(?P<currency>\b[A-Z]{3}\b|\p{Sc})"), "currency")
    return sorted(found.drop_null().unique().to_pylist())


def _is_naive(values: pa.Array) -> bool:
    if pa.types.is_timestamp(values.type):
        return values.type.tz is None
    first = _first(values)
    return (
        isinstance(first, str)
        and len(first) > 10
        and not first.rstrip().endswith(("Z", "z"))
        and ("+" not in first and "-" not in first[10:])
    )


def _first(values: pa.Array) -> Any:
    if values.null_count == len(values):
        return None
    return next((value for value in listed(values) if value is not None), f"a {values.type}")
