"""Tables of results as CSV and Parquet, for spreadsheets, notebooks and warehouses."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from immr.storage.atomic import write_atomically

if TYPE_CHECKING:
    import pyarrow as pa


def of_records(records: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pa.Table:
    """The records as rows of these columns; several values in one field become text, separated by commas."""
    import pyarrow as pa

    plain = {name: [_single(record[name]) for record in records] for name in columns}
    return pa.table({name: pa.array(values) for name, values in plain.items()})


def _single(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value


def to_csv(table: pa.Table) -> str:
    """The table as CSV with a header; numbers in full, null as an empty field."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.column_names)
    writer.writerows(row.values() for row in table.to_pylist())
    return out.getvalue()


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write the table atomically."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    write_atomically(path, buffer.getvalue())
