"""The mapping file (`--map map.toml`): where a shop's tables are, and what its columns mean."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from immr.data.contract import CONTRACT, TableContract
from immr.data.mapping.column_rule import ColumnRule
from immr.errors import ContractError

_STRICT = ConfigDict(extra="forbid")
_HEADER = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
_FAULTS = {
    "unexpected_keyword_argument": "there is no such key",
    "tuple_type": 'write a list, such as ["a", "b"]',
    "dataclass_type": 'write a table, such as { column = "Preis" }',
}
"""Pydantic names types of Python in these; whoever writes a mapping knows those of TOML."""


@with_config(_STRICT)
@dataclass(frozen=True)
class PictureRules:
    """How pictures are fetched that are no files."""

    base: str = ""  # relative paths of pictures start here; by default at the tables' folder
    headers: Mapping[str, str] = field(default_factory=dict)  # of every request
    header_files: Mapping[str, Path] = field(default_factory=dict)  # header → file with its value (a secret)
    parallel: Annotated[int, Field(ge=1, le=1000)] = 16  # requests at a time
    timeout_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 20.0  # for one picture, each try
    tries: Annotated[int, Field(ge=1)] = 5
    max_mb: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 32.0  # of one picture
    allow_private: bool = False  # addresses of private networks and of this machine
    buckets: tuple[str, ...] = ()  # places at s3:// and gs:// that may be read

    def __post_init__(self) -> None:
        for name, value in (*self.headers.items(), *((name, "") for name in self.header_files)):
            if not _HEADER.fullmatch(name) or not value.isprintable():
                raise ValueError(f"{name!r} is not a header's name, or its value has a line break")


@with_config(_STRICT)
@dataclass(frozen=True)
class TableMap:
    """One table's place, file format and columns. Contract columns that are not in `columns` keep their names."""

    source: str = ""  # file, folder, glob, URL or warehouse table; by default as the contract names it
    delimiter: str = ""  # of CSV
    encoding: str = ""  # of CSV and JSON lines
    sql: str = ""  # a DuckDB query over all its rows, `FROM rows`; `columns` are those of the result
    columns: Mapping[str, ColumnRule] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.delimiter and (not re.fullmatch(r'[^"\r\n]', self.delimiter) or not self.delimiter.isascii()):
            raise ValueError(f"the delimiter is {self.delimiter!r}: give one ASCII character")
        if self.encoding and not _is_text_encoding(self.encoding):
            raise ValueError(
                f"there is no encoding {self.encoding!r}: give one such as utf-8, cp1252 or cp932"
            )

    def check_known(self, contract: TableContract, place: str) -> None:
        """Check that every mapped column is one of the table's or a declared attribute.

        Raises:
            ContractError: A mapped column is neither.
        """
        known = [name for name in contract.columns.names if name != "attributes"] + list(contract.attributes)
        if unknown := self.columns.keys() - set(known):
            declared = (
                " (an attribute: declare it in attributes.toml beside the tables)"
                if contract.name == "items"
                else ""
            )
            raise ContractError(
                f"{place}: {contract.name}.columns.{min(unknown)}: the table has no such column{declared}; it has "
                f"{', '.join(known)}"
            )

    def names(self, there: Sequence[str], place: str) -> list[str]:
        """The columns after mapping.

        Raises:
            ContractError: a mapped column does not exist.
        """
        for name, rule in self.columns.items():
            if missing := [column for column in rule.sources if column not in there]:
                raise ContractError(
                    f"{place} has no column {missing[0]}, from which the mapping takes {name}: it has "
                    f"{', '.join(there)}"
                )
        return [*self.columns, *(name for name in there if name not in self.columns)]

    @property
    def sources(self) -> set[str]:
        """The shop's columns that rules read; those of an expression are not known."""
        return {source for rule in self.columns.values() for source in rule.sources}

    def single_values(self, lists: Collection[str]) -> set[str]:
        """The shop's columns that rules read as they are, so that a list or an object in them is a mistake.

        `lists` are the columns that may have one.
        """
        plain = [rule for name, rule in self.columns.items() if not rule.separator and name not in lists]
        return {rule.column for rule in plain if rule.column}

    def sources_of(self, columns: Sequence[str]) -> list[str] | None:
        """The columns to read for some of the contract's; None for all."""
        rules = [self.columns.get(name) or ColumnRule(column=name) for name in columns]
        if any(rule.sql or not rule.sources for rule in rules):
            return None
        return list(dict.fromkeys(source for rule in rules for source in rule.sources))

    def only(self, columns: Sequence[str]) -> TableMap:
        """The same for some of the contract's columns."""
        return replace(self, columns={name: rule for name, rule in self.columns.items() if name in columns})

    def apply(self, batch: pa.RecordBatch, place: str) -> pa.RecordBatch:
        """The same rows with the contract's columns first; a value that a rule cannot read becomes unreadable.

        Raises:
            ContractError: a column is missing, or an expression is wrong; the message names the mapped column.
        """
        if not self.columns:
            return batch
        names = self.names(batch.schema.names, place)
        mapped = [rule.values(batch, name, place) for name, rule in self.columns.items()]
        # by place, because a column that nobody reads may be there twice
        own = zip(batch.schema.names, batch.columns, strict=True)
        columns = [*mapped, *(column for name, column in own if name not in self.columns)]
        return pa.RecordBatch.from_arrays(columns, names)


@with_config(_STRICT)
@dataclass(frozen=True)
class ShopMap:
    """A shop's tables, as its mapping file describes them."""

    source: str = ""
    pictures: PictureRules = field(default_factory=PictureRules)
    items: TableMap = field(default_factory=TableMap)
    queries: TableMap = field(default_factory=TableMap)
    impressions: TableMap = field(default_factory=TableMap)
    judgements: TableMap = field(default_factory=TableMap)

    @classmethod
    def read(cls, path: Path) -> ShopMap:
        """Read a mapping file.

        Raises:
            ContractError: The file cannot be read, or has an unknown key or a value of the wrong type.
        """
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:  # a TOMLDecodeError names the line
            raise ContractError(f"the mapping {path} cannot be read: {error}") from error
        try:
            read = TypeAdapter(cls).validate_python(_expanded(values))
        except (ValidationError, ContractError) as error:
            raise ContractError(
                f"{path}: {_fault(error)}: correct it (docs/mapping.md lists the keys)"
            ) from error
        for contract in CONTRACT[1:]:  # items may have attributes, which are known with the tables
            read.table(contract.name).check_known(contract, str(path))
        return read

    def table(self, name: str) -> TableMap:
        """The mapping of one of the contract's tables."""
        found: TableMap = getattr(self, name)
        return found

    def with_source(self, table: str, source: str) -> ShopMap:
        """The same mapping with one table elsewhere."""
        changed: dict[str, Any] = {table: replace(self.table(table), source=source)}
        return replace(self, **changed)

    def fingerprint(self) -> dict[str, Any]:
        """What changes the rows: everything but how pictures are fetched."""
        plain = asdict(self)
        return {**plain, "pictures": plain["pictures"]["base"]}


def _is_text_encoding(name: str) -> bool:
    try:
        return bool("a".encode(name))
    except (LookupError, UnicodeError):
        return False


def _expanded(values: dict[str, Any]) -> dict[str, Any]:
    """`price = "Preis"` is short for `price = { column = "Preis" }`."""
    expanded = dict(values)
    for contract in CONTRACT:
        table = values.get(contract.name)
        if isinstance(table, dict) and isinstance(columns := table.get("columns"), dict):
            full = {
                name: {"column": rule} if isinstance(rule, str) else rule for name, rule in columns.items()
            }
            expanded[contract.name] = {**table, "columns": full}
    return expanded


def _fault(error: ValidationError | ContractError) -> str:
    if isinstance(error, ContractError):
        return str(error)
    first = error.errors()[0]
    fault = _FAULTS.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    return f"{'.'.join(str(part) for part in first['loc'])}: {fault}"
