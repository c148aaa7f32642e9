"""Validates a shop's tables against the data contract. Invalid rows go to `rejected/` with their reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from immr.data.contract import TableContract
from immr.data.sources.shop import Shop, ShopTable
from immr.data.sources.table_parts import CHUNK_ROWS
from immr.data.table_chunks import Typed, rows_where, typed
from immr.data.validation.duplicate_rows import LaterRows, are_repeated, merge_into_first, why_repeated
from immr.data.validation.known_keys import KnownKeys, hashes_of
from immr.data.validation.row_rules import broken, rules_of
from immr.errors import ContractError
from immr.machine.progress_bar import ProgressBar
from immr.machine.wording import by_number, counted

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = 5
"""Rejected rows that are named for each reason."""


@dataclass(frozen=True)
class TableCounts:
    """rows_in = valid + the sum of rejected."""

    rows_in: int
    valid: int
    rejected: Mapping[str, int]  # reason → rows
    examples: Mapping[str, Sequence[str]] = field(default_factory=dict)  # reason → some of their keys


@dataclass(frozen=True)
class AdmittedTables:
    """Valid rows are in `<folder>/<table>.parquet`, the others in `<folder>/rejected/<table>.parquet`."""

    folder: Path
    tables: Mapping[str, TableCounts]

    def path(self, table: str) -> Path:
        """Where the valid rows of a table are."""
        return self.folder / f"{table}.parquet"


def admit(
    source: Shop | str | Path, out: Path, chunk_rows: int = CHUNK_ROWS, now: datetime | None = None
) -> AdmittedTables:
    """Check all tables of a shop chunk by chunk (`immr.data.sources.shop` describes their names).

    A row is rejected for the first rule that it breaks. Of several rows with one key the first is kept; later
    impressions of one query and item are merged into it, so that a click logged after its impression counts.
    Memory: one chunk and eight bytes per row.

    Args:
        source: the shop; relative paths of pictures start at its folder.
        out: where the valid rows and `rejected/` are written.
        chunk_rows: rows that are checked at a time.
        now: rows from later than the next day are rejected; by default the present.

    Raises:
        ContractError: a table or column is missing or of a type that cannot be read, or a table has no valid
            row.
    """
    known: dict[str, KnownKeys] = {}
    now = now or datetime.now(UTC)
    return AdmittedTables(
        out,
        {
            table.contract.name: _admit(table, out, _Checker(table.contract, known, now), chunk_rows)
            for table in Shop.of(source).tables()
        },
    )


def admit_table(table: ShopTable, out: Path) -> TableCounts:
    """Check one table alone, without its references to other tables, into `<out>/<table>.parquet`.

    Args:
        table: of a shop.
        out: where the valid rows and `rejected/` are written.

    Raises:
        ContractError: a column is missing or of a type that cannot be read, or there is no valid row.
    """
    return _admit(table, out, _Checker(table.contract, {}, datetime.now(UTC)), CHUNK_ROWS)


def _admit(table: ShopTable, out: Path, checker: _Checker, chunk_rows: int) -> TableCounts:
    contract = table.contract
    rows_in, valid, rejected, examples = 0, 0, Counter[str](), dict[str, list[str]]()
    (out / "rejected").mkdir(parents=True, exist_ok=True)
    target = out / f"{contract.name}.parquet"
    with (
        pq.ParquetWriter(target, contract.columns) as accepted,
        _Rejected(out / "rejected" / f"{contract.name}.parquet") as rejects,
        ProgressBar(f"checking {contract.name}", table.rows() or 0, "rows") as progress,
    ):
        for raw, mapped, part in table.chunks(chunk_rows):
            chunk = typed(mapped, contract, part.place, table.beside)
            reasons = checker.reasons(chunk)
            good = (reasons == "").to_numpy()
            accepted.write_table(_table(chunk.frame[good], contract))
            rejects.write(raw, reasons, ~good)
            rows_in, valid = rows_in + len(good), valid + int(good.sum())
            rejected.update(reasons[~good].tolist())
            _add_examples(examples, reasons[~good], chunk.frame[contract.key[0]])
            progress.advance(len(good))
    if not valid and (rows_in or not contract.optional):
        raise ContractError(_nothing_valid(table, rows_in, rejected))
    if checker.later:
        merge_into_first(target, contract, checker.later)
    return TableCounts(rows_in, valid, dict(sorted(rejected.items())), examples)


def rejected_files(folder: Path, table: str) -> list[Path]:
    """The files with a table's rejected rows, one per set of columns; none if there are no rows."""
    return [*folder.glob(f"{table}.parquet"), *sorted(folder.glob(f"{table}-*.parquet"))]


class _Checker:
    """Checks the rows of one table, alone and against the rows before them."""

    def __init__(self, contract: TableContract, known: dict[str, KnownKeys], now: datetime) -> None:
        self._contract, self._known = contract, known
        self._rules: Any = rules_of(contract, now)
        self._own = known[contract.name] = KnownKeys()
        self.later: list[LaterRows] = []
        """Rows that repeat a key and have something to merge into the first."""

    def reasons(self, chunk: Typed) -> pd.Series[str]:
        """Why each row is rejected; empty for a good one. Keys of the good ones become known."""
        contract, frame = self._contract, chunk.frame
        reasons = broken(frame, self._rules)
        for reason, rows in reversed(chunk.unreadable.items()):
            reasons[rows] = reason
        for column, table in contract.refers_to.items():
            if table in self._known:
                unknown = ~self._known[table].contain(hashes_of(frame, (column,)))
                reasons = reasons.mask((reasons == "") & unknown, f"{column} is not among the valid {table}")
        hashes = hashes_of(frame, contract.key)
        if contract.apart_from:
            shared = self._known[contract.apart_from].contain(hashes)
            reasons = reasons.mask(
                (reasons == "") & shared, f"{contract.key[0]} is also in {contract.apart_from}"
            )
        repeated = are_repeated(frame, reasons, contract, self._own)
        if contract.merged and repeated.any():
            rows = repeated.to_numpy()
            self.later.append(LaterRows.of(frame[rows], hashes[rows], contract))
        return reasons.mask(repeated, why_repeated(contract))


class _Rejected:
    """Writes rejected rows as they came, plus `reason`; creates no file if there are none.

    Parts of a table may differ in columns and types: where they do, the next file begins (see `rejected_files`).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number = 0
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> _Rejected:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._writer:
            self._writer.close()

    def write(self, batch: pa.RecordBatch, reasons: pd.Series[str], bad: npt.NDArray[np.bool_]) -> None:
        if not bad.any():
            return
        rows = rows_where(batch, bad)
        if "reason" in rows.column_names:  # ours replaces a column of that name
            rows = rows.drop_columns("reason")
        rows = rows.append_column("reason", pa.array(reasons[bad].tolist(), pa.string()))
        if self._writer is None or not self._writer.schema.equals(rows.schema):
            self._next(rows.schema)
        assert self._writer is not None
        self._writer.write_table(rows)

    def _next(self, schema: pa.Schema) -> None:
        if self._writer:
            self._writer.close()
        self._number += 1
        path = self._path if self._number == 1 else self._path.with_stem(f"{self._path.stem}-{self._number}")
        self._writer = pq.ParquetWriter(path, schema)


def _add_examples(examples: dict[str, list[str]], reasons: pd.Series[str], keys: pd.Series[str]) -> None:
    for reason, of_reason in reasons.groupby(reasons):
        known = examples.setdefault(str(reason), [])
        known += keys[of_reason.index].dropna().head(EXAMPLES - len(known)).tolist()


def _table(frame: pd.DataFrame, contract: TableContract) -> pa.Table:
    arrays = []
    for column in contract.columns:
        values = frame[column.name]
        if column.type == pa.int64():
            values = values.astype("int64")
        arrays.append(pa.array(values, column.type, from_pandas=True))
    return pa.Table.from_arrays(arrays, schema=contract.columns)


def _nothing_valid(table: ShopTable, rows_in: int, rejected: Counter[str]) -> str:
    if not rows_in:
        return f"{table.place} has no rows: the table {table.contract.name} needs at least one"
    most = "; ".join(f"{reason} ({counted(rows, 'row')})" for reason, rows in rejected.most_common(3))
    none = by_number(rows_in, "its only row does not meet", f"none of its {rows_in:,} rows meets")
    return f"{table.place}: {none} the data contract. Correct this first: {most}"
