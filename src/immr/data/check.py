"""Checks a sample of a shop's tables and reports what fits the data contract, without writing anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from immr.data import attributes
from immr.data.contract import ITEMS, TableContract
from immr.data.rules import broken, rules_of
from immr.data.tables import CHUNK_ROWS, Typed, chunks, columns_of, files_of, typed
from immr.errors import ContractError

if TYPE_CHECKING:
    import pandas as pd

SAMPLE_ROWS = 100_000


@dataclass(frozen=True)
class Problem:
    """A rule that rows of the sample break."""

    reason: str
    rows: int
    example: str  # the value in the first of them


@dataclass(frozen=True)
class TableReport:
    """How one table fits the contract."""

    name: str
    files: int = 0
    sampled: int = 0
    valid: int = 0
    problems: tuple[Problem, ...] = ()
    ignored_columns: tuple[str, ...] = ()
    error: str = ""  # why the table cannot be read at all
    proposals: Mapping[str, str] = field(default_factory=dict)  # missing column → similar one in the file

    @property
    def fits(self) -> bool:
        """Whether every row of the sample is valid."""
        return not self.error and self.valid == self.sampled


def check(source: Path, rows: int = SAMPLE_ROWS) -> list[TableReport]:
    """Check the first rows of each table in a folder.

    Duplicate keys and references between tables are not checked: a sample does not show them.

    Args:
        source: the folder with the tables.
        rows: sampled per table.

    Returns:
        A report per table; an optional table that is missing has none.
    """
    reports = []
    try:
        contracts = attributes.contracts_of(source)
    except ContractError as error:
        return [TableReport(ITEMS.name, error=str(error))]
    for contract in contracts:
        try:
            files = files_of(source, contract)
        except ContractError as error:
            reports.append(TableReport(contract.name, error=str(error)))
            continue
        if files:
            reports.append(_report(contract, files, source, rows))
    return reports


def _report(contract: TableContract, files: list[Path], source: Path, rows: int) -> TableReport:
    there: list[str] = []
    sampled = valid = 0
    counts, examples = Counter[str](), dict[str, str]()
    rules = rules_of(contract, datetime.now(UTC))
    try:
        there = columns_of(files[0])
        for batch in _sample(contract, files, rows):
            reasons = _reasons(typed(batch, contract, files[0], source.absolute()), rules)
            bad = reasons[reasons != ""]
            sampled, valid = sampled + len(batch), valid + len(batch) - len(bad)
            counts.update(bad.tolist())
            for row, reason in bad.drop_duplicates().items():
                examples.setdefault(reason, _example(batch, row, reason))
    except ContractError as error:
        return TableReport(contract.name, len(files), error=str(error), proposals=_proposals(contract, there))
    problems = tuple(Problem(reason, count, examples[reason]) for reason, count in counts.most_common())
    read = {*contract.columns.names, *contract.attributes} - {attributes.COLUMN}
    ignored = tuple(name for name in there if name not in read)
    return TableReport(contract.name, len(files), sampled, valid, problems, ignored)


def _sample(contract: TableContract, files: list[Path], rows: int) -> Iterator[pa.RecordBatch]:
    left = rows
    for batch in chain.from_iterable(chunks(file, contract, min(rows, CHUNK_ROWS)) for file in files):
        yield batch.slice(0, left)
        left -= len(batch)
        if left <= 0:
            return


def _reasons(chunk: Typed, rules: Any) -> pd.Series[str]:
    reasons = broken(chunk.frame, rules)
    for reason, rows in reversed(chunk.unreadable.items()):
        reasons[rows] = reason
    return reasons


def _example(batch: pa.RecordBatch, row: Any, reason: str) -> str:
    """Every reason begins with the name of its column."""
    return _printed(batch.column(reason.split(maxsplit=1)[0])[row])


def _printed(value: pa.Scalar) -> str:
    try:
        return repr(value.as_py())
    except (OverflowError, ValueError):  # a time that Python cannot express, or not UTF-8
        return f"a {value.type} that cannot be printed"


def _proposals(contract: TableContract, there: list[str]) -> dict[str, str]:
    """For each missing column the most similar name in the file."""
    spare = {name.lower(): name for name in there if name not in contract.columns.names}
    close = {
        name: get_close_matches(name, spare, n=1, cutoff=0.5) for name in contract.needed if name not in there
    }
    return {name: spare[found[0]] for name, found in close.items() if found}
