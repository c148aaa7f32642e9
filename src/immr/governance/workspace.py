"""The tables that governance works on: reads them into an engine, keeps intermediate ones, and writes the results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from immr.governance.engines.engine import TableEngine, connect
from immr.storage.atomic import replace_folder_atomically


class Workspace:
    """Reads Parquet into the engine, keeps tables that are used more than once, and writes ordered Parquet.

    Kept tables are stored as Parquet in the scratch folder on every engine. So a log may be larger than memory,
    and Spark does not recompute a table for each use.
    """

    def __init__(self, engine: TableEngine, scratch: Path) -> None:
        self.scratch = scratch
        self._engine = engine
        self._numbers = count()

    def read(self, path: Path) -> Any:
        """A Parquet file, or a folder of them, as an Ibis table."""
        return self._engine.read(path)

    def keep(self, table: Any) -> Any:
        """The same table, computed once and stored."""
        return self._engine.keep(table, self._path("kept"))

    def rows(self, table: Any) -> int:
        """Number of rows."""
        return self._engine.count(table)

    def batches(self, table: Any, order_by: Sequence[Any]) -> Iterator[pa.RecordBatch]:
        """The rows in order, chunk by chunk."""
        for path in self._engine.write(table.order_by(list(order_by)), self._path("rows")):
            with pq.ParquetFile(path) as file:
                yield from file.iter_batches(131_072)
            path.unlink()

    def table(self, table: Any, order_by: Sequence[Any]) -> pa.Table:
        """All rows in order, as columns in memory."""
        batches = list(self.batches(table, order_by))
        return pa.Table.from_batches(batches) if batches else table.schema().to_pyarrow().empty_table()

    def fetch(self, table: Any, order_by: Sequence[str], limit: int | None = None) -> list[dict[str, Any]]:
        """All rows in order, or the first `limit` of them; for small tables."""
        if limit is not None:
            table = table.order_by(list(order_by)).limit(limit)
        return [row for batch in self.batches(table, order_by) for row in batch.to_pylist()]

    def write(self, table: Any, path: Path, schema: pa.Schema, order_by: Sequence[str]) -> None:
        """Write the schema's columns to a Parquet file, rows in order."""
        with pq.ParquetWriter(path, schema) as writer:
            for batch in self.batches(table.select(*schema.names), order_by):
                writer.write_table(pa.Table.from_batches([batch]).cast(schema))

    def _path(self, kind: str) -> Path:
        return self.scratch / f"{kind}_{next(self._numbers)}.parquet"


@contextmanager
def building(engine_url: str, out: Path) -> Iterator[tuple[Workspace, Path]]:
    """A workspace, and a folder that replaces `out` once the block has ended without an error.

    Raises:
        SettingsError: no engine understands the URL.
    """
    with (
        closing(connect(engine_url)) as engine,
        TemporaryDirectory(prefix="immr-govern-", dir=engine.scratch) as scratch,
        replace_folder_atomically(out) as folder,
    ):
        yield Workspace(engine, Path(scratch)), folder
