"""Proposes a mapping from a sample: which column is which, and how its values are written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from immr.data import attributes
from immr.data.contract import TableContract
from immr.data.mapping.column_names import known_columns, similar_columns, usual_columns
from immr.data.mapping.column_rule import ColumnRule
from immr.data.mapping.object_fields import listed
from immr.data.mapping.shop_map import TableMap
from immr.data.mapping.value_formats import has_no_pictures, is_blank, picture_rules, reading_of

_MANY_REPEAT = 0.05  # of the ids in the sample
_NEVER_SIMILAR = frozenset({"variant", "model_version"})  # any text fits them, and a default is fine


@dataclass(frozen=True)
class MappingProposal:
    """Rules by contract column, only for columns that need one, and what the reader should decide."""

    rules: Mapping[str, ColumnRule] = field(default_factory=dict)
    notes: Sequence[str] = ()
    source: str = ""
    delimiter: str = ""
    encoding: str = ""
    sql: str = ""

    @classmethod
    def of(cls, mapping: TableMap) -> MappingProposal:
        """A table's mapping as it is."""
        return cls(mapping.columns, (), mapping.source, mapping.delimiter, mapping.encoding, mapping.sql)

    def to_toml(self, table: str) -> str:
        """The part of a mapping file for this table: one line for each column."""
        lines = [f"# {note}" for note in self.notes]
        place = {name: getattr(self, name) for name in ("source", "delimiter", "encoding")}
        if any(place.values()) or self.sql:
            lines += [f"[{table}]", *(f"{name} = {_inline(value)}" for name, value in place.items() if value)]
            lines += [f"sql = {_block(self.sql)}"] if self.sql else []
        if self.rules:
            lines += [
                f"[{table}.columns]",
                *(f"{name} = {_inline(_short(r))}" for name, r in self.rules.items()),
            ]
        return "\n".join(lines) + "\n" if lines else ""


def propose(
    contract: TableContract, there: Sequence[str], sample: pa.RecordBatch | None, place: TableMap
) -> MappingProposal:
    """A mapping of a table, as far as names and values show it.

    Args:
        contract: of the table.
        there: the shop's columns.
        sample: some of their rows; None if they cannot be read.
        place: the table's file and its format.
    """
    columns = [column for column in contract.columns if column.name != attributes.COLUMN]
    names = [column.name for column in columns]
    there = _with_values(there, sample, names)
    found = similar_columns(names, there, contract.may_lack | _NEVER_SIMILAR)
    known = known_columns(names, there)
    found |= _complete_id(found, there, sample)
    rules, notes = dict[str, ColumnRule](), list[str]()
    for wanted in columns:
        name = wanted.name
        read = reading_of(name, wanted.type, found[name], sample) if name in found else None
        if read and (read.fits or name in known):
            as_read = _with_default(name, read.rule, sample)
            if as_read != ColumnRule(column=name):
                rules[name] = as_read
            if name not in known:
                notes.append(
                    f"{name}: no column has a usual name for it; {found[name]!r} is similar: is it the right one?"
                )
            notes += [read.note] if read.note else []
        elif rule := _without_column(name, found, rules, there, sample):
            rules[name] = rule
        elif default := _default(name):
            rules[name] = default
            notes.append(f"{name}: no such column was found, so every row gets {default.value!r}")
        elif name in contract.needed:
            without = ", or add price = { value = 0 } below if there are no prices" * (name == "price")
            notes.append(f"{name}: no such column was found; name one{without}")
    return replace(MappingProposal.of(place), rules=rules, notes=notes)


def _with_values(there: Sequence[str], sample: pa.RecordBatch | None, names: Sequence[str]) -> Sequence[str]:
    """Without the columns in which no row has a value, unless they have the contract's name or may be empty."""
    if sample is None or not len(sample):
        return there
    kept = {*names, *usual_columns("stock", there), *usual_columns("images", there)}
    return [
        column
        for column in there
        if column in kept or column not in sample.schema.names or not is_blank(sample.column(column))
    ]


def _complete_id(
    found: Mapping[str, str], there: Sequence[str], sample: pa.RecordBatch | None
) -> dict[str, str]:
    """Another column for `item_id`, if the one found lacks values that the other has, as a shop's SKUs may."""
    if sample is None or "item_id" not in found:
        return {}

    def gaps(column: str) -> int:
        return sum(value is None or not str(value).strip() for value in listed(sample.column(column)))

    columns = [found["item_id"], *usual_columns("item_id", there)]
    usable = [column for column in columns if column in sample.schema.names]
    return {"item_id": min(usable, key=gaps)} if usable else {}


def one_row_for_each_item(proposal: MappingProposal, sample: pa.RecordBatch) -> MappingProposal:
    """The proposal with a query that makes one row of those with the same id, if many rows repeat one.

    An export may have a row for each variant, of which only the first has a title and a picture.

    Args:
        proposal: for items.
        sample: rows of the table.
    """
    rule = proposal.rules.get("item_id", ColumnRule(column="item_id"))
    if not rule.column or rule.column not in sample.schema.names:
        return proposal
    ids = [str(each) for each in listed(sample.column(rule.column)) if each is not None]
    if not ids or len(ids) - len(set(ids)) < _MANY_REPEAT * len(ids):
        return proposal
    key = '"' + rule.column.replace('"', '""') + '"'
    is_text = all(pa.types.is_string(kind) for kind in sample.schema.types)
    value = "nullif(COLUMNS(*), '')" if is_text else "COLUMNS(*)"
    note = (
        f"{rule.column!r} repeats, as if there were a row for each variant: each item takes its first value in every "
        "column; for others, write them in the query, such as min(price)"
    )
    sql = f"SELECT any_value({value} ORDER BY rowid) AS '\\0' FROM rows GROUP BY {key}"
    return replace(proposal, sql=sql, notes=[note, *proposal.notes])


def _without_column(
    name: str,
    found: Mapping[str, str],
    rules: Mapping[str, ColumnRule],
    there: Sequence[str],
    sample: pa.RecordBatch | None,
) -> ColumnRule | None:
    """Pictures that share a column, or are in columns like the main one's with numbers."""
    if name == "image" and "images" in found:
        values = None if sample is None else sample.column(found["images"])
        if values is not None and has_no_pictures(values):
            return None
        rules_found = picture_rules(found["images"], values) if values is not None else []
        return rules_found[0] if rules_found else ColumnRule(column=found["images"], separator="|")
    if name == "images" and "image" in rules and (shared := rules["image"]).separator:
        return shared
    if name == "images" and "image" in found:
        stem = _without_number(found["image"])
        if more := tuple(each for each in there if each != found["image"] and _without_number(each) == stem):
            return ColumnRule(columns=more)
    return None


def _without_number(name: str) -> str:
    return re.sub(r"[\W_]*\d+$", "", name).casefold()


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


def _block(sql: str) -> str:
    """A query as text over several lines."""
    return _inline(sql) if "'''" in sql else f"'''\n{sql.strip()}\n'''"


def _default(name: str) -> ColumnRule | None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    values: dict[str, Any] = {
        "description": "",
        "category": "All",
        "updated_at": today.isoformat(),
        "ordered": False,
        "variant": "before IMMR",
        "model_version": "before IMMR",
    }
    return ColumnRule(value=values[name]) if name in values else None


def _with_default(name: str, rule: ColumnRule, sample: pa.RecordBatch | None) -> ColumnRule:
    """The rule with a default, if there is one and no row of the sample has a value."""
    default = _default(name)
    if not default or not default.value or not rule.column or sample is None or not len(sample):
        return rule
    is_empty = rule.column in sample.schema.names and is_blank(sample.column(rule.column))
    return replace(rule, default=default.value) if is_empty else rule


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
