"""DuckDB in memory, for tables and files of any size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

# DuckDB's manual advises 1 to 4 GB for each thread; with less than 125 MB, some queries fail instead of spilling
_LIMIT = """SELECT least(parse_formatted_bytes(current_setting('memory_limit')),
    current_setting('threads') * 1024 * 1024 * 1024)"""


@contextmanager
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory; beyond 1 GiB for each thread, and at most 80 % of the machine's memory, it spills to
    a temporary folder.

    Times without a zone count as UTC, whatever the machine's time zone is.
    """
    import duckdb

    with (
        TemporaryDirectory(prefix="immr-duckdb-") as folder,
        duckdb.connect(config={"preserve_insertion_order": False, "temp_directory": folder}) as base,
    ):
        [(limit,)] = base.execute(_LIMIT).fetchall()
        base.execute(f"SET memory_limit = '{limit}B'; SET TimeZone = 'UTC'")
        yield base


def quoted(path: object) -> str:
    """A path as a text in SQL, for statements that take no parameters."""
    escaped = str(path).replace("'", "''")
    return f"'{escaped}'"
