from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from immr.governance.workspace import Workspace

Table = Callable[[list[dict[str, Any]]], Any]


def test_rows_are_returned_in_the_requested_order(workspace: Workspace, table: Table) -> None:
    numbers = table([{"n": n} for n in (3, 1, 2)])
    assert workspace.rows(numbers) == 3
    assert [row["n"] for row in workspace.fetch(numbers, ["n"])] == [1, 2, 3]
    assert [row["n"] for row in workspace.fetch(numbers, ["n"], limit=2)] == [1, 2]
    assert workspace.table(numbers, [numbers.n.desc()])["n"].to_pylist() == [3, 2, 1]


def test_an_empty_table_keeps_its_columns(workspace: Workspace, table: Table) -> None:
    numbers = table([{"n": 1, "name": "a"}])
    empty = workspace.table(numbers.filter(numbers.n > 1), ["n"])
    assert (empty.num_rows, empty.column_names) == (0, ["n", "name"])


def test_written_tables_have_the_schema(workspace: Workspace, table: Table, tmp_path: Path) -> None:
    schema = pa.schema({"n": pa.int32()})
    numbers = table([{"n": n, "name": "x"} for n in (2, 1)])
    workspace.write(numbers, tmp_path / "written.parquet", schema, ["n"])
    written = pq.read_table(tmp_path / "written.parquet")
    assert written.schema.equals(schema)
    assert written["n"].to_pylist() == [1, 2]


def test_a_cached_table_is_computed_once(duckdb_workspace: Workspace, duckdb_table: Table) -> None:
    import ibis

    numbers = duckdb_table([{"n": n} for n in range(100)])
    drawn = duckdb_workspace.keep(numbers.mutate(x=ibis.random()))
    assert duckdb_workspace.fetch(drawn, ["n"]) == duckdb_workspace.fetch(drawn, ["n"])
