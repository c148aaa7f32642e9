"""DuckDB in memory, for tables and files of any size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb


@contextmanager
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory; beyond DuckDB's limit, 80 % of the machine's memory, it may spill to a temporary folder.

    A limit of our own is not set: with a low one, the sum of a long log by query fails instead of spilling.
    """
    import duckdb

    with (
        TemporaryDirectory(prefix="immr-duckdb-") as folder,
        duckdb.connect(config={"preserve_insertion_order": False, "temp_directory": folder}) as base,
    ):
        yield base


def quoted(path: object) -> str:
    """A path as a text in SQL, for statements that take no parameters."""
    escaped = str(path).replace("'", "''")
    return f"'{escaped}'"
