"""Validates a shop's tables against the data contract. Invalid rows go to `rejected/` with their reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from immr.data.attributes import contracts_of
from immr.data.contract import TableContract
from immr.data.known_keys import KnownKeys, hashes_of
from immr.data.merging import LaterRows, merge_into_first
from immr.data.rules import broken, rules_of
from immr.data.tables import CHUNK_ROWS, Typed, chunks, files_of, readable, typed
from immr.errors import ContractError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TableCounts:
    """rows_in = valid + the sum of rejected."""

    rows_in: int
    valid: int
    rejected: Mapping[str, int]  # reason → rows


@dataclass(frozen=True)
class Admission:
    """Valid rows are in `<folder>/<table>.parquet`, the others in `<folder>/rejected/<table>.parquet`."""

    folder: Path
    tables: Mapping[str, TableCounts]

    def path(self, table: str) -> Path:
        """Where the valid rows of a table are."""
        return self.folder / f"{table}.parquet"


def admit(folder: Path, out: Path, chunk_rows: int = CHUNK_ROWS, now: datetime | None = None) -> Admission:
    """Check all tables in a folder chunk by chunk (`immr.data.tables.files_of` describes their names).

    A row is rejected for the first rule that it breaks. Of several rows with one key the first is kept; later
    impressions of one query and item are merged into it, so that a click logged after its impression counts.
    Memory: one chunk and eight bytes per row.

    Args:
        folder: with the tables; relative paths of pictures start here.
        out: where the valid rows and `rejected/` are written.
        chunk_rows: rows that are checked at a time.
        now: rows from later than the next day are rejected; by default the present.

    Raises:
        ContractError: a table or column is missing or of a type that cannot be read, or a table has no valid
            row.
    """
    known: dict[str, KnownKeys] = {}
    now = now or datetime.now(UTC)
    counts = {}
    for contract in contracts_of(folder):
        if files := files_of(folder, contract):
            checker = _Checker(contract, known, now)
            counts[contract.name] = _admit(contract, files, folder, out, checker, chunk_rows)
    return Admission(out, counts)


def admit_table(contract: TableContract, files: list[Path], beside: Path, out: Path) -> TableCounts:
    """Check one table alone, without its references to other tables, into `<out>/<table>.parquet`.

    Args:
        contract: of the table.
        files: the table.
        beside: the folder that relative paths of pictures start from.
        out: where the valid rows and `rejected/` are written.

    Raises:
        ContractError: a column is missing or of a type that cannot be read, or there is no valid row.
    """
    return _admit(contract, files, beside, out, _Checker(contract, {}, datetime.now(UTC)), CHUNK_ROWS)


def _admit(
    contract: TableContract,
    files: list[Path],
    beside: Path,
    out: Path,
    checker: _Checker,
    chunk_rows: int,
) -> TableCounts:
    rows_in, valid, rejected = 0, 0, Counter[str]()
    (out / "rejected").mkdir(parents=True, exist_ok=True)
    target = out / f"{contract.name}.parquet"
    with pq.ParquetWriter(target, contract.columns) as accepted:
        for path in files:
            with _Rejected(out / "rejected" / f"{contract.name}.parquet", append=path != files[0]) as rejects:
                for batch in chunks(path, contract, chunk_rows):
                    chunk = typed(batch, contract, path, beside.absolute())
                    reasons = checker.reasons(chunk)
                    good = (reasons == "").to_numpy()
                    accepted.write_table(_table(chunk.frame[good], contract))
                    rejects.write(batch, reasons, ~good)
                    rows_in, valid = rows_in + len(good), valid + int(good.sum())
                    rejected.update(reasons[~good].tolist())
    if not valid and (rows_in or not contract.optional):
        raise ContractError(_nothing_valid(files, contract, rows_in, rejected))
    if checker.later:
        merge_into_first(target, contract, checker.later)
    return TableCounts(rows_in, valid, dict(sorted(rejected.items())))


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
        good = reasons == ""
        repeated = frame.loc[good, list(contract.key)].duplicated().reindex(frame.index, fill_value=False)
        repeated = good & (repeated | self._own.contain(hashes))
        if contract.merged and repeated.any():
            rows = repeated.to_numpy()
            self.later.append(LaterRows.of(frame[rows], hashes[rows], contract))
        reasons = reasons.mask(repeated, _duplicate(contract))
        self._own.add(hashes[(reasons == "").to_numpy()])
        return reasons


class _Rejected:
    """Writes rejected rows as they came, plus `reason`; creates no file if there are none."""

    def __init__(self, path: Path, append: bool) -> None:
        self._path = path if not append else _free_name(path)
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> _Rejected:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._writer:
            self._writer.close()

    def write(self, batch: pa.RecordBatch, reasons: pd.Series[str], bad: npt.NDArray[np.bool_]) -> None:
        if not bad.any():
            return
        rows = readable(pa.Table.from_batches([batch]).filter(pa.array(bad)))
        if "reason" in rows.column_names:  # ours replaces a column of that name
            rows = rows.drop_columns("reason")
        rows = rows.append_column("reason", pa.array(reasons[bad].tolist(), pa.string()))
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, rows.schema)
        self._writer.write_table(rows)


def _duplicate(contract: TableContract) -> str:
    keys = " and ".join(contract.key)
    return f"merged into the first row with the same {keys}" if contract.merged else f"duplicate {keys}"


def _free_name(path: Path) -> Path:
    """Parts of a table may differ in type, so the rejects of each part have their own file."""
    number = 2
    while (candidate := path.with_stem(f"{path.stem}-{number}")).exists():
        number += 1
    return candidate if path.exists() else path


def _table(frame: pd.DataFrame, contract: TableContract) -> pa.Table:
    arrays = []
    for column in contract.columns:
        values = frame[column.name]
        if column.type == pa.int64():
            values = values.astype("int64")
        arrays.append(pa.array(values, column.type, from_pandas=True))
    return pa.Table.from_arrays(arrays, schema=contract.columns)


def _nothing_valid(files: list[Path], contract: TableContract, rows_in: int, rejected: Counter[str]) -> str:
    where = files[0] if len(files) == 1 else files[0].parent
    if not rows_in:
        return f"{where} has no rows: the table {contract.name} needs at least one"
    most = "; ".join(f"{reason} ({rows} rows)" for reason, rows in rejected.most_common(3))
    return f"{where}: none of its {rows_in} rows meets the data contract. Correct this first: {most}"
