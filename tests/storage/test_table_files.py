"""Tables of results as CSV and Parquet."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow.parquet as pq

from immr.storage.table_files import of_records, to_csv, write_parquet

COLUMNS = ("name", "share", "roles", "ended")


def test_numbers_are_written_in_full_and_nothing_as_an_empty_field(tmp_path: Path) -> None:
    records = [
        {"name": "a, b", "share": math.pi, "roles": ("champion", "previous"), "ended": None, "left": "out"},
        {"name": "c", "share": 0.1, "roles": (), "ended": True},
    ]
    table = of_records(records, COLUMNS)
    assert to_csv(table) == (
        'name,share,roles,ended\n"a, b",3.141592653589793,"champion, previous",\nc,0.1,,True\n'
    )
    write_parquet(table, tmp_path / "table.parquet")
    assert pq.read_table(tmp_path / "table.parquet").to_pylist() == table.to_pylist()


def test_without_records_the_header_stays() -> None:
    assert to_csv(of_records([], COLUMNS)) == "name,share,roles,ended\n"
