"""Proposes a mapping from a sample: which column is which, and how its values are written."""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from immr.data import attributes
from immr.data.column_types import UnsuitableTypeError, convert
from immr.data.contract import TIMESTAMP, TableContract
from immr.data.mapping.column_names import known_columns, similar_columns
from immr.data.mapping.column_rule import ColumnRule, DecimalMark
from immr.data.mapping.shop_map import TableMap
from immr.errors import ContractError

_ENOUGH = 0.5  # of the values in the sample must be readable
_SEPARATORS = (" > ", ">", " » ", " / ", " | ", "|", "; ", "::")
_FORMATS = (
    *("%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y", "%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%d/%m/%Y"),
    *(
        "%m/%d/%Y %H:%M:%S",
        "%m/%d/%Y %I:%M %p",
        "%m/%d/%Y",
        "%Y/%m/%d %H:%M:%S",
        "%Y/%m/%d %H:%M",
        "%Y/%m/%d",
    ),
    *("%Y年%m月%d日 %H:%M", "%Y年%m月%d日", "%Y%m%d"),
)
_TRUTH = (
    *(("yes", "no"), ("y", "n"), ("ja", "nein"), ("j", "n"), ("wahr", "falsch"), ("t", "f"), ("x", "")),
    *(("oui", "non"), ("sí", "no"), ("si", "no"), ("はい", "いいえ")),
)
_IN_STOCK = (
    *(
        ("true", "false"),
        ("in stock", "out of stock"),
        ("in_stock", "out_of_stock"),
        ("instock", "outofstock"),
    ),
    *(("available", "unavailable"), ("verfügbar", "nicht verfügbar"), ("lieferbar", "nicht lieferbar")),
)
_NEVER_SIMILAR = frozenset({"variant", "model_version"})  # any text fits them, and a default is fine
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_EARLIEST, _LATEST = 946_684_800, 4_102_444_800  # 2000 and 2100, in seconds


@dataclass(frozen=True)
class Proposal:
    """Rules by contract column, only for columns that need one, and what the reader should decide."""

    rules: Mapping[str, ColumnRule] = field(default_factory=dict)
    notes: Sequence[str] = ()
    source: str = ""
    delimiter: str = ""
    encoding: str = ""
    sql: str = ""

    @classmethod
    def of(cls, mapping: TableMap) -> Proposal:
        """A table's mapping as it is."""
        return cls(mapping.columns, (), mapping.source, mapping.delimiter, mapping.encoding, mapping.sql)

    def to_toml(self, table: str) -> str:
        """The part of a mapping file for this table: one line for each column."""
        lines = [f"# {note}" for note in self.notes]
        place = {name: getattr(self, name) for name in ("source", "delimiter", "encoding")}
        if any(place.values()):
            lines += [f"[{table}]", *(f"{name} = {_inline(value)}" for name, value in place.items() if value)]
        if self.rules:
            lines += [
                f"[{table}.columns]",
                *(f"{name} = {_inline(_short(r))}" for name, r in self.rules.items()),
            ]
        return "\n".join(lines) + "\n" if lines else ""


def propose(
    contract: TableContract, there: Sequence[str], sample: pa.RecordBatch | None, place: TableMap
) -> Proposal:
    """A mapping of a table, as far as names and values show it.

    Args:
        contract: of the table.
        there: the shop's columns.
        sample: some of their rows; None if they cannot be read.
        place: the table's file and its format.
    """
    columns = [column for column in contract.columns if column.name != attributes.COLUMN]
    names = [column.name for column in columns]
    found = similar_columns(names, there, contract.may_lack | _NEVER_SIMILAR)
    known = known_columns(names, there)
    rules, notes = {}, list[str]()
    for wanted in columns:
        name = wanted.name
        if name not in found:
            if default := _default(name):
                rules[name] = default
                notes.append(f"{name}: no such column was found, so every row gets {default.value!r}")
            elif name in contract.needed:
                notes.append(f"{name}: no such column was found; name one")
            continue
        rule, note = _rule(name, wanted.type, found[name], sample)
        if rule != ColumnRule(column=name):
            rules[name] = rule
        if name not in known:
            notes.append(
                f"{name}: no column has a usual name for it; {found[name]!r} is similar: is it the right one?"
            )
        notes += [note] if note else []
    return replace(Proposal.of(place), rules=rules, notes=notes)


def _inline(value: Any) -> str:
    """A value of TOML on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
        case list():
            return f"[{', '.join(map(_inline, value))}]"
        case dict():
            return f"{{ {', '.join(f'{key} = {_inline(each)}' for key, each in value.items())} }}"
        case _:
            return str(value).removesuffix(".0")


def encoding_of(content: bytes) -> str:
    """The encoding of text: empty for UTF-8 and for marked UTF-16, Shift JIS if Japanese, else Windows-1252."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return ""
    cut = content[: content.rfind(b"\n") + 1] or content  # the last character may be cut off
    try:
        cut.decode("utf-8")
        return ""
    except UnicodeDecodeError:
        pass
    kana = sum("\u3040" <= sign <= "\u30ff" for sign in cut.decode("cp932", errors="ignore"))
    return "cp932" if kana > 0.02 * len(cut) else "cp1252"


def _rule(name: str, kind: pa.DataType, column: str, sample: pa.RecordBatch | None) -> tuple[ColumnRule, str]:
    """The reading under which most values fit, and a note if that leaves a question."""
    plain = ColumnRule(column=column)
    if sample is None or not len(sample) or column not in sample.schema.names:
        return plain, ""
    values = sample.column(column)
    candidates = [plain, *_readings(name, kind, column, values)]
    shares = [_readable(rule, sample, kind, name) for rule in candidates]
    if name == "position" and _counts_from_zero(values):
        return ColumnRule(column=column, plus=1.0), f"position: {column!r} counts from 0, so 1 is added"
    best = max(range(len(candidates)), key=lambda at: (shares[at], -at))
    if shares[best] < _ENOUGH:
        return (
            plain,
            f"{name}: few values of {column!r} can be read, such as {_first(values)!r}; is it the right column?",
        )
    chosen = candidates[best]
    readable = {rule.decimal: share for rule, share in zip(candidates, shares, strict=True) if rule.decimal}
    if chosen.decimal and len({*readable.values()}) == 1 and (unclear := _thousands(values)):
        other = "," if chosen.decimal == "." else "."
        return (
            chosen,
            f"{name}: {unclear!r} is read as thousands; if it is a fraction, set decimal = {other!r}",
        )
    return chosen, _question(chosen, name, kind, values)


def _readings(name: str, kind: pa.DataType, column: str, values: pa.Array) -> list[ColumnRule]:
    if kind in (pa.float64(), pa.int64()):
        thousands = _thousands(values) or ""
        marks: tuple[DecimalMark, ...] = (".", ",") if "," in thousands else (",", ".")
        words = [pair for pair in (*_TRUTH, *_IN_STOCK) if all(pair)]
        truth = _truth(column, values, words) if name == "stock" else []
        return [*(ColumnRule(column=column, decimal=mark) for mark in marks), *truth]
    if kind == pa.bool_():
        return _truth(column, values, _TRUTH)
    if kind == TIMESTAMP:
        counted = [ColumnRule(column=column, unit=unit) for unit in _units(values)]
        return [*counted, *(ColumnRule(column=column, format=pattern) for pattern in _FORMATS)]
    if name == "category":
        used = [each for each in _SEPARATORS if _holds(values, each)]
        return [ColumnRule(column=column, separator=(each.strip())) for each in used[:1]]
    return []


def _truth(column: str, values: pa.Array, pairs: Sequence[tuple[str, str]]) -> list[ColumnRule]:
    """The words for true and false that the column has, if it has only such words."""
    words = {str(word).strip().lower() for word in values.unique().to_pylist() if word is not None}
    fitting = [pair for pair in pairs if words <= set(pair)] or [
        pair for pair in pairs if words - {""} <= set(pair)
    ]
    return [ColumnRule(column=column, true=(yes,), false=(no,)) for yes, no in fitting[:1]]


def _thousands(values: pa.Array) -> str | None:
    """The first number with one mark and three digits behind it, such as 1,299: a thousand, or a fraction."""
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return None
    unclear = pc.match_substring_regex(values, r"(^|[^\d.,])\d{1,3}[.,]\d{3}([^\d.,]|$)")
    found = values.filter(pc.fill_null(unclear, False))
    return str(found[0].as_py()) if len(found) else None


def _readable(rule: ColumnRule, sample: pa.RecordBatch, kind: pa.DataType, name: str) -> float:
    """The share of values that the rule reads, of those that are there."""
    try:
        converted, given = convert(rule.values(sample, name, "the sample"), kind)
    except (UnsuitableTypeError, ContractError, pa.ArrowException):
        return 0.0
    there = pc.sum(given).as_py() or 0
    read = len(converted) - converted.null_count
    bonus = 1e-6 if name == "category" and rule.separator else 0.0  # any text is a category
    return read / there + bonus if there else 1.0


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
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        return separator == ">"
    texts = pc.cast(values, pa.string())
    listed = separator == ">" and pc.any(pc.starts_with(texts, "[")).as_py()
    return bool(listed or pc.any(pc.match_substring(texts, separator)).as_py())


def _question(rule: ColumnRule, name: str, kind: pa.DataType, values: pa.Array) -> str:
    if kind == TIMESTAMP and not rule.unit and not rule.zone and _is_naive(values):
        return f'{name}: its times have no zone and are read as UTC; if they are local, add zone = "Europe/Berlin"'
    if name == "price" and "cent" in rule.column.lower():
        return f"price: if {rule.column!r} counts cents, add times = 0.01"
    if rule.format.startswith(("%d/%m", "%m/%d")):
        return f"{name}: {_first(values)!r} is read as {rule.format}; check day and month"
    return ""


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


def _default(name: str) -> ColumnRule | None:
    today = datetime.combine(date.today(), datetime.min.time(), UTC)
    values: dict[str, Any] = {
        "description": "",
        "category": "All",
        "updated_at": today.isoformat(),
        "ordered": False,
        "variant": "before IMMR",
        "model_version": "before IMMR",
    }
    return ColumnRule(value=values[name]) if name in values else None


def _first(values: pa.Array) -> Any:
    valid = values.drop_null()
    try:
        return valid[0].as_py() if len(valid) else None
    except (OverflowError, ValueError):  # a time that Python cannot express, or not UTF-8
        return f"a {values.type}"


def _short(rule: ColumnRule) -> Any:
    defaults = asdict(ColumnRule(column="x"))
    changed = {
        key: value for key, value in asdict(rule).items() if value != defaults[key] and value is not None
    }
    changed.pop("column", None)
    if rule.column:
        changed = {"column": rule.column, **changed}
    changed = {key: list(value) if isinstance(value, tuple) else value for key, value in changed.items()}
    return rule.column if set(changed) == {"column"} else changed
