"""Tables of a warehouse, by an Ibis URL: `postgres://user:password@host/database`, `bigquery://project/dataset`."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from immr.data.sources.table_parts import CHUNK_ROWS
from immr.errors import ContractError
from immr.settings import reason_without_credentials, without_credentials

SCHEMES = (
    "postgres",
    "postgresql",
    "bigquery",
    "snowflake",
    "mysql",
    "redshift",
    "trino",
    "duckdb",
    "sqlite",
)


def is_warehouse(uri: str) -> bool:
    """Whether a URL is that of a warehouse, not of files."""
    return uri.partition("://")[0].lower() in SCHEMES and "://" in uri


@dataclass(frozen=True)
class WarehousePart:
    """A table of a warehouse. Its rows come in the order of all their values, which no two connections change."""

    url: str
    table: str  # may be qualified: shop.artikel

    @property
    def place(self) -> str:
        """See the port."""
        return f"{without_credentials(self.url)}, table {self.table}"

    def columns(self) -> list[str]:
        """See the port."""
        with self._opened() as table:
            return list(table.columns)

    def batches(
        self, rows: int = CHUNK_ROWS, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """See the port."""
        with self._opened() as table:
            chosen = table.select(*columns) if columns else table
            ordered = chosen.order_by(
                [chosen[name] for name, kind in chosen.schema().items() if _sorts(kind)]
            )
            yield from _batches(ordered, rows)

    def batches_since(
        self, column: str, since: datetime, columns: Sequence[str], rows: int = CHUNK_ROWS
    ) -> Generator[pa.RecordBatch]:
        """Those of the columns that exist, of the rows whose `column` is not before `since`; in no order.

        A time without a zone is in UTC, and JSON becomes text.

        Raises:
            ContractError: The table cannot be read, or has no such column.
        """
        with self._opened() as table:
            if column not in table.columns:
                raise ContractError(
                    f"{self.place} has no column {column}: load what `immr events sink` writes"
                )
            kinds = table.schema()
            if not kinds[column].is_timestamp():
                raise ContractError(f"{self.place} has {kinds[column]} in {column}: make it a timestamp")
            zoned = kinds[column].timezone is not None
            first = since if zoned else since.astimezone(UTC).replace(tzinfo=None)
            chosen = table.filter(table[column] >= first).select(
                **{
                    name: table[name].cast("string") if kinds[name].is_json() else table[name]
                    for name in columns
                    if name in table.columns
                }
            )
            yield from _batches(chosen, rows)

    def rows(self) -> int | None:
        """See the port."""
        with self._opened() as table:
            return int(table.count().execute())

    def state(self) -> str:
        """See the port. Reads all rows: a warehouse keeps no time of a table's last change that all would know."""
        digest = hashlib.sha256()
        for batch in self.batches():
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                digest.update(f"{name} {column.type} {column.to_pylist()}\n".encode())
        return digest.hexdigest()

    def stamp(self) -> str:
        """See the port: the number of rows and the newest times, which the warehouse computes."""
        with self._opened() as table:
            times = [name for name, kind in table.schema().items() if kind.is_timestamp() or kind.is_date()]
            newest = {name: table[name].max() for name in times}
            [row] = table.aggregate(rows=table.count(), **newest).to_pyarrow().to_pylist()
        return f"{self.place} {row}"

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        database, _, name = self.table.rpartition(".")
        try:
            with _connected(self.url) as connection:
                yield connection.table(name, database=database or None)
        except ContractError:
            raise
        except Exception as error:  # each warehouse's driver has its own tree of errors
            reason = reason_without_credentials(error, self.url)
            raise ContractError(
                f"{self.place} cannot be read ({reason}): check the URL, the table's name and the driver"
            ) from error


@contextmanager
def _connected(url: str) -> Iterator[Any]:
    """A connection. A wrong path of a DuckDB or SQLite file creates no file."""
    import ibis

    parts = urlsplit(url)
    if parts.scheme == "sqlite" and not Path(path := unquote(parts.netloc + parts.path)).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    file = url.startswith("duckdb://") and not url.startswith("duckdb://md:")  # md: is MotherDuck
    connection = ibis.connect(url, **({"read_only": True} if file else {}))
    try:
        yield connection
    finally:
        connection.disconnect()


def _batches(rows: Any, chunk_rows: int) -> Iterator[pa.RecordBatch]:
    backend = rows.get_backend()
    if backend.name == "duckdb":
        # ibis-framework 12.0.0 calls fetch_record_batch, which DuckDB 2.0.0 no longer has
        return iter(backend.con.sql(backend.compile(rows)).to_arrow_reader(chunk_rows))
    return iter(rows.to_pyarrow_batches(chunk_size=chunk_rows))


def tables_of(url: str) -> list[str]:
    """The names of a warehouse's tables.

    Raises:
        ContractError: The warehouse does not answer.
    """
    try:
        with _connected(url) as connection:
            if connection.name == "duckdb":
                # ibis-framework 12.0.0 calls fetch_arrow_table, which DuckDB 2.0.0 no longer has
                known = connection.table("tables", database="information_schema")
                here = known.filter(known.table_schema == connection.current_database)
                return list(here.table_name.to_pyarrow().to_pylist())
            return list(connection.list_tables())
    except Exception as error:  # each warehouse's driver has its own tree of errors
        raise ContractError(
            f"{without_credentials(url)} does not answer ({reason_without_credentials(error, url)}): check "
            "the URL and the driver"
        ) from error


def _sorts(kind: Any) -> bool:
    return bool(
        kind.is_string() or kind.is_numeric() or kind.is_temporal() or kind.is_boolean() or kind.is_uuid()
    )
