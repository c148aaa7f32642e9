"""DuckDB in memory, for tables and files of any size."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    import duckdb

# DuckDB's manual advises 1 to 4 GB for each thread; with less than 125 MB, some queries fail instead of spilling
_LIMIT = """SELECT least(parse_formatted_bytes(current_setting('memory_limit')),
    current_setting('threads') * 1024 * 1024 * 1024)"""


class _Shared:
    """One DuckDB for the process: to start one takes 20 to 40 ms, to attach a database to it two."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = count()
        self._process = 0
        self._instances: list[Any] = []  # a forked process keeps its parent's, whose threads it does not have

    def connected(self) -> tuple[duckdb.DuckDBPyConnection, str]:
        """A connection that uses an empty database of its own, and the database's name."""
        import duckdb

        with self._lock:
            name = f"database_{next(self._numbers)}"
            if self._process == os.getpid():
                try:
                    return _attached(self._instances[-1], name), name
                except duckdb.FatalException:  # an earlier one ended this instance for good
                    self._instances.pop()
            if not self._process:
                atexit.register(self._close)
            self._process = os.getpid()
            self._instances.append(_started(Path(gettempdir()) / f"immr-duckdb-{uuid4().hex}"))
            return _attached(self._instances[-1], name), name

    def _close(self) -> None:
        """At the process's end; otherwise DuckDB reports objects that leaked."""
        if self._process == os.getpid():
            self._instances.pop().close()


_SHARED = _Shared()


@contextmanager
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory. All of a process share their limit of memory, beyond which they spill to a temporary
    folder: 1 GiB for each thread, and at most 80 % of the machine's memory.

    Times without a zone count as UTC, whatever the machine's time zone is.

    Settings that concern the whole process, such as `threads`, must not be changed: use `own_database`.
    """
    import duckdb

    base, name = _SHARED.connected()
    with base:
        try:
            yield base
        finally:
            with suppress(duckdb.FatalException):
                base.execute("USE memory")
                base.execute(f"DETACH {name}")


@contextmanager
def own_database() -> Iterator[duckdb.DuckDBPyConnection]:
    """The same on a DuckDB of its own, whose settings may be changed."""
    with TemporaryDirectory(prefix="immr-duckdb-") as folder, _started(folder) as base:
        yield base


def quoted(path: object) -> str:
    """A path as a text in SQL, for statements that take no parameters."""
    escaped = str(path).replace("'", "''")
    return f"'{escaped}'"


def _started(spill: str | Path) -> duckdb.DuckDBPyConnection:
    """DuckDB with a limit of memory; a folder for spilling that does not exist is made and deleted when needed."""
    import duckdb

    base = duckdb.connect(config={"preserve_insertion_order": False, "temp_directory": str(spill)})
    [(limit,)] = base.execute(_LIMIT).fetchall()
    base.execute(f"SET memory_limit = '{limit}B'; SET GLOBAL TimeZone = 'UTC'")
    return base


def _attached(instance: duckdb.DuckDBPyConnection, name: str) -> duckdb.DuckDBPyConnection:
    base = instance.cursor()
    base.execute(f"ATTACH ':memory:' AS {name}")
    base.execute(f"USE {name}")
    return base
