"""Changed items from a file, by the data contract."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, fields
from pathlib import Path

import pyarrow.parquet as pq

from immr.data.admission import TableCounts, admit_table
from immr.data.contract import ITEMS
from immr.errors import ContractError
from immr.types import Item


@dataclass(frozen=True)
class ReadItems:
    """The valid items of a file, and what became of the other rows."""

    items: list[Item]
    counts: TableCounts


def read_items(file: Path) -> ReadItems:
    """Items of a Parquet or CSV file with the contract's columns; relative pictures lie beside the file.

    Raises:
        ContractError: no such file, another kind of file, a missing column, or no valid row.
    """
    if not file.is_file():
        raise ContractError(f"there is no file {file}: give a Parquet or CSV file with the items' columns")
    if file.suffix not in (".csv", ".parquet"):
        raise ContractError(f"{file} is neither .parquet nor .csv: write it as one of them")
    with tempfile.TemporaryDirectory(prefix="immr-items-") as folder:
        counts = admit_table(ITEMS, [file], file.parent, Path(folder))
        columns = [field.name for field in fields(Item)]
        rows = pq.read_table(Path(folder) / "items.parquet", columns=columns).to_pylist()
    return ReadItems([Item(**row) for row in rows], counts)
