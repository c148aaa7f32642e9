"""The data contract at the door: good rows go in, bad rows go to `rejected/` with their reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from immr.data.contract import CONTRACT, TableContract
from immr.data.known_keys import KnownKeys, hashes_of
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
    """What came in: `<folder>/<table>.parquet`; and what did not: `<folder>/rejected/<table>.parquet`."""

    folder: Path
    tables: Mapping[str, TableCounts]

    def path(self, table: str) -> Path:
        """Where the valid rows of a table are."""
        return self.folder / f"{table}.parquet"


def admit(folder: Path, out: Path, chunk_rows: int = CHUNK_ROWS) -> Admission:
    """Check the tables in `folder`, each a Parquet file or a folder of Parquet files, chunk by chunk.

    A row is rejected for the first rule that it breaks. Of two rows with one key the first stays. Besides a
    chunk, only eight bytes per row are held. Relative paths of pictures start from `folder`.

    Raises:
        ContractError: a table or column is missing or of a useless type, or a table has no valid row.
    """
    known: dict[str, KnownKeys] = {}
    counts = {}
    for contract in CONTRACT:
        if files := files_of(folder, contract):
            counts[contract.name] = _admit(contract, files, folder, out, known, chunk_rows)
    return Admission(out, counts)


def admit_table(contract: TableContract, files: list[Path], beside: Path, out: Path) -> TableCounts:
    """Check one table on its own, with no other to refer to, into `<out>/<table>.parquet`; see `admit`.

    Args:
        contract: of the table.
        files: the table.
        beside: the folder that relative paths of pictures start from.
        out: where the valid rows go.

    Raises:
        ContractError: a column is missing or of a useless type, or there is no valid row.
    """
    return _admit(contract, files, beside, out, {}, CHUNK_ROWS)


def _admit(
    contract: TableContract,
    files: list[Path],
    beside: Path,
    out: Path,
    known: dict[str, KnownKeys],
    chunk_rows: int,
) -> TableCounts:
    door = _Door(contract, known)
    rows_in, valid, rejected = 0, 0, Counter[str]()
    (out / "rejected").mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(out / f"{contract.name}.parquet", contract.columns) as accepted:
        for path in files:
            with _Aside(out / "rejected" / f"{contract.name}.parquet", append=path != files[0]) as aside:
                for batch in chunks(path, contract, chunk_rows):
                    chunk = typed(batch, contract, path, beside.absolute())
                    reasons = door.reasons(chunk)
                    good = (reasons == "").to_numpy()
                    accepted.write_table(_table(chunk.frame[good], contract))
                    aside.write(batch, reasons, ~good)
                    rows_in, valid = rows_in + len(good), valid + int(good.sum())
                    rejected.update(reasons[~good].tolist())
    if not valid and (rows_in or not contract.optional):
        raise ContractError(_nothing_valid(files, contract, rows_in, rejected))
    return TableCounts(rows_in, valid, dict(sorted(rejected.items())))


class _Door:
    """One table's: what a row must keep on its own, and beside the rows that came before it."""

    def __init__(self, contract: TableContract, known: dict[str, KnownKeys]) -> None:
        self._contract, self._known = contract, known
        self._rules: Any = rules_of(contract)
        self._own = known[contract.name] = KnownKeys()

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
        reasons = reasons.mask(
            good & (repeated | self._own.contain(hashes)), f"duplicate {' and '.join(contract.key)}"
        )
        self._own.add(hashes[(reasons == "").to_numpy()])
        return reasons


class _Aside:
    """Writes rejected rows as they came, plus `reason`; makes no file when there are none."""

    def __init__(self, path: Path, append: bool) -> None:
        self._path = path if not append else _free_name(path)
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> _Aside:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._writer:
            self._writer.close()

    def write(self, batch: pa.RecordBatch, reasons: pd.Series[str], bad: npt.NDArray[np.bool_]) -> None:
        if not bad.any():
            return
        rows = readable(pa.Table.from_batches([batch]).filter(pa.array(bad)))
        if "reason" in rows.column_names:  # theirs gives way
            rows = rows.drop_columns("reason")
        rows = rows.append_column("reason", pa.array(reasons[bad].tolist(), pa.string()))
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, rows.schema)
        self._writer.write_table(rows)


def _free_name(path: Path) -> Path:
    """Parts of a table may differ in type, so the rejects of a second part get a file of their own."""
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
    return f"{where}: none of its {rows_in} rows keeps the data contract. Correct this first: {most}"
