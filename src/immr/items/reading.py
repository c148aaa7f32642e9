"""Changed items from a file, by the data contract."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from immr.data.contract import ITEMS, TableCounts, admit_table
from immr.errors import ContractError
from immr.types import Item


@dataclass(frozen=True)
class ReadItems:
    """The valid items of a file, and what became of the other rows."""

    items: list[Item]
    counts: TableCounts


def read_items(file: Path) -> ReadItems:
    """Items of a Parquet or CSV file with the contract's columns.

    Raises:
        ContractError: no such file, another kind of file, a missing column, or no valid row.
    """
    if not file.is_file():
        raise ContractError(f"there is no file {file}: give a Parquet or CSV file with the items' columns")
    with tempfile.TemporaryDirectory(prefix="immr-items-") as folder:
        table = Path(folder) / "items.parquet"
        if file.suffix == ".csv":
            pq.write_table(_read_csv(file), table)
        elif file.suffix == ".parquet":
            table = file
        else:
            raise ContractError(f"{file} is neither .parquet nor .csv: write it as one of them")
        counts = admit_table(ITEMS, table, Path(folder) / "admitted")
        rows = pq.read_table(Path(folder) / "admitted" / "items.parquet").to_pylist()
    columns = {field.name for field in fields(Item)}
    items = [Item(**{name: value for name, value in row.items() if name in columns}) for row in rows]
    return ReadItems([_beside(item, file) for item in items], counts)


def _read_csv(file: Path) -> pa.Table:
    text = {name: pa.string() for name in ("item_id", "title", "description", "category", "image")}
    try:
        return csv.read_csv(file, convert_options=csv.ConvertOptions(column_types=text))
    except pa.ArrowException as error:
        raise ContractError(f"{file} is no readable CSV file ({error}): write it again") from error


def _beside(item: Item, file: Path) -> Item:
    """Relative pictures lie beside the file, wherever later readers run."""
    if "://" in item.image or Path(item.image).is_absolute():
        return item
    return replace(item, image=str((file.parent / item.image).absolute()))
