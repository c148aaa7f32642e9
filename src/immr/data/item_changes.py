"""Reads changed or deleted items from a file, by the data contract."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from immr.data.admission import TableCounts, admit_table
from immr.data.attributes import declared, item_of
from immr.data.contract import ITEMS
from immr.errors import ContractError
from immr.types import Item


@dataclass(frozen=True)
class ReadItems:
    """The valid items of a file, and the counts of rejected rows."""

    items: list[Item]
    counts: TableCounts


def read_items(file: Path) -> ReadItems:
    """Items of a file with the contract's columns, and with the attributes that its folder declares.

    Relative paths of pictures start from its folder.

    Raises:
        ContractError: no such file, another kind of file, a missing column, or no valid row.
    """
    _check_kind(file, "the items' columns")
    with tempfile.TemporaryDirectory(prefix="immr-items-") as folder:
        contract = ITEMS.with_attributes(declared(file.parent))
        counts = admit_table(contract, [file], file.parent, Path(folder))
        rows = pq.read_table(Path(folder) / "items.parquet").to_pylist()
    return ReadItems([item_of(row) for row in rows], counts)


def read_ids(file: Path) -> list[str]:
    """The `item_id` column of a Parquet or CSV file, each id once; other columns may be there.

    Raises:
        ContractError: no such file, another kind of file, no such column, or an id that is missing or empty.
    """
    _check_kind(file, "a column item_id")
    try:
        if file.suffix == ".csv":
            as_text = csv.ConvertOptions(include_columns=["item_id"], column_types={"item_id": pa.string()})
            ids = csv.read_csv(file, convert_options=as_text)["item_id"].to_pylist()
        else:
            ids = pq.read_table(file, columns=["item_id"])["item_id"].cast(pa.string()).to_pylist()
    except (pa.ArrowException, KeyError) as error:
        raise ContractError(f"{file} has no readable column item_id ({error}): write it again") from error
    if not all(ids):
        raise ContractError(f"{file} has rows without an item_id: leave them out")
    return list(dict.fromkeys(ids))


def _check_kind(file: Path, columns: str) -> None:
    if not file.is_file():
        raise ContractError(f"there is no file {file}: give a Parquet or CSV file with {columns}")
    if file.suffix not in (".csv", ".parquet"):
        raise ContractError(f"{file} is neither .parquet nor .csv: write it as one of them")
