"""A table that a DuckDB query makes of a shop's rows: one row from several, several from one, or fewer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa

from immr.data.sources.table_parts import CHUNK_ROWS, MALFORMED, TablePart
from immr.errors import ContractError
from immr.storage.database import database

if TYPE_CHECKING:
    import duckdb

# one thread, so that first() and the like give the same value in each run
_SETTINGS = "SET threads = 1; SET preserve_insertion_order = true"
_NO_FILES = "SET enable_external_access = false; SET python_enable_replacements = false"
_SHOWN_CHARS = 300


@dataclass(frozen=True)
class QueriedPart:
    """The result of a query over all rows of other parts, in the order of all its values.

    CSV lines that cannot be split into columns take no part in the query; they follow its result, to be rejected.

    Attributes:
        parts: the rows, `rows` in the query, in the order of the parts.
        sql: a DuckDB query; it cannot read files.
        name: of the table, for messages.
    """

    parts: Sequence[TablePart]
    sql: str
    name: str

    @property
    def place(self) -> str:
        """See the port."""
        return self.parts[0].place

    def columns(self) -> list[str]:
        """See the port. It reads all rows, as `batches` does: only they have all columns and types."""
        return list(self._columns)

    def batches(
        self, rows: int = CHUNK_ROWS, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """See the port. Rows beyond DuckDB's memory limit are in a temporary folder.

        A result without rows is one batch of none, because its columns cannot be had for less.
        """
        malformed: list[pa.RecordBatch] = []
        with self._loaded(malformed) as base, self._explained():
            result = base.sql(f"SELECT * FROM ({self._query}\n) ORDER BY ALL").to_arrow_reader(rows)
            names, empty = list(result.schema.names if columns is None else columns), True
            for batch in result:
                empty = False
                yield batch.select(names)
            if empty:
                yield pa.RecordBatch.from_pylist([], schema=result.schema).select(names)
        for batch in malformed:
            yield _with_columns(batch, names)

    def rows(self) -> int | None:
        """See the port."""
        return None

    def state(self) -> str:
        """See the port."""
        return " ".join(part.state() for part in self.parts)

    def stamp(self) -> str:
        """See the port."""
        return " ".join(part.stamp() for part in self.parts)

    @property
    def _query(self) -> str:
        return self.sql.strip().rstrip(";")

    @cached_property
    def _columns(self) -> Sequence[str]:
        with self._loaded([]) as base, self._explained():
            return tuple(base.sql(f"SELECT * FROM ({self._query}\n) LIMIT 0").columns)

    @contextmanager
    def _loaded(self, malformed: list[pa.RecordBatch]) -> Iterator[duckdb.DuckDBPyConnection]:
        """A database with the table `rows`; lines that are not rows are added to `malformed`."""
        with database() as base:
            base.execute(_SETTINGS)
            there: list[str] = []
            for part in self.parts:
                for batch in part.batches():
                    if MALFORMED in batch.schema.names:
                        malformed += [batch] if len(batch) else []
                    else:
                        self._insert(base, batch, there)
            if not there:
                raise ContractError(f"{self.place} has no rows, so {self.name}.sql has nothing to read")
            base.execute(_NO_FILES)
            yield base

    def _insert(self, base: duckdb.DuckDBPyConnection, batch: pa.RecordBatch, there: list[str]) -> None:
        """Add rows; `there` are the table's columns, which may differ by file, and in JSON lines by row."""
        with self._explained():
            base.register("batch", batch)
            if not there:
                base.execute("CREATE TABLE rows AS SELECT * FROM batch LIMIT 0")
                there += base.table("rows").columns
            found = base.table("batch")
            known = {name.casefold() for name in there}  # as in DuckDB
            for name, kind in zip(found.columns, found.types, strict=True):
                if name.casefold() not in known:
                    base.execute(f"ALTER TABLE rows ADD COLUMN {_identifier(name)} {kind}")
                    there.append(name)
            base.execute("INSERT INTO rows BY NAME SELECT * FROM batch")
        base.unregister("batch")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        import duckdb

        try:
            yield
        except duckdb.Error as error:
            reason = " ".join(str(error).partition("\n\nLINE ")[0].split())[:_SHOWN_CHARS]
            raise ContractError(
                f"{self.place}: {self.name}.sql fails: {reason} (its rows are the table `rows`): correct the mapping"
            ) from error


def _with_columns(batch: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
    """Malformed lines with a query's columns, of which only those are filled that have a name of the file's."""
    values = {
        name: batch.column(name) if name in batch.schema.names else pa.nulls(len(batch), pa.string())
        for name in [*columns, MALFORMED]
    }
    return pa.RecordBatch.from_pydict(values)


def _identifier(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'
