"""Exports the event log as the next click log: `queries` and `impressions` in the data contract."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from immr.data.contract import IMPRESSIONS, QUERIES, TableContract
from immr.data.sources.catalogue_copy import CatalogueCopy
from immr.errors import EventLogError
from immr.machine.wording import counted
from immr.readout.bots import DEFAULT_BOT_POLICY, mark_bots
from immr.readout.event_views import Parquet
from immr.readout.sums import open_queries
from immr.storage.atomic import replace_folder_atomically

if TYPE_CHECKING:
    import duckdb

_REPLACEABLE = ("queries.parquet", "impressions.parquet", "items.parquet", "attributes.toml")
_ROWS_PER_BATCH = 50_000

_EXPORTED = """CREATE TEMP TABLE exported AS
    SELECT query_id, image FROM asked ANTI JOIN bots USING (user_id)
    JOIN read_parquet($photos) USING (query_id)"""
_ROWS = {
    QUERIES.name: "asked JOIN exported USING (query_id) ORDER BY ts, query_id",
    IMPRESSIONS.name: "shown SEMI JOIN exported USING (query_id) ORDER BY ts, query_id, position, item_id",
}


@dataclass(frozen=True)
class Exported:
    """What was exported and what was left out: queries_in = queries + without_photo + of_bots."""

    folder: Path
    queries_in: int
    queries: int
    without_photo: int
    of_bots: int
    impressions: int


def export(
    joined: Parquet, searches: Parquet, photos: Path, out: Path, catalogue: CatalogueCopy | None = None
) -> Exported:
    """Write the `queries` and `impressions` tables, and the `items` if a catalogue is given.

    Training needs the photo of a query, so only queries with a kept photo are exported, with all
    their impressions. Queries of bots are left out.

    Args:
        joined: Impressions, as returned by `EventLog.batches`.
        searches: Searches, likewise.
        photos: The photos, see `PhotoStore.on_disk`.
        out: The folder to write; an earlier export in it is replaced as a whole.
        catalogue: The shop's items, which the event log does not have.

    Raises:
        EventLogError: No query is left.
        DataError: `out` holds something other than an earlier export.
    """
    with open_queries(joined, searches) as base:
        mark_bots(base, DEFAULT_BOT_POLICY)
        base.execute(_EXPORTED, {"photos": str(photos)})
        everyones = _count(base, "asked")
        shoppers = _count(base, "asked ANTI JOIN bots USING (user_id)")
        exported = _count(base, "exported")
        if not everyones:
            raise EventLogError("no search was recorded in that time: send searches to the gateway first")
        if not exported:
            raise EventLogError(
                f"no photo to train on was kept with {counted(everyones, 'query')} ({shoppers:,} by shoppers): "
                "set IMMR_KEEP_PHOTOS=1 for the gateway"
            )
        with replace_folder_atomically(out, _REPLACEABLE) as folder:
            _write(base, QUERIES, folder)
            impressions = _write(base, IMPRESSIONS, folder)
            if catalogue is not None:
                catalogue.write(folder)
    return Exported(
        folder=out,
        queries_in=everyones,
        queries=exported,
        without_photo=shoppers - exported,
        of_bots=everyones - shoppers,
        impressions=impressions,
    )


def _count(base: duckdb.DuckDBPyConnection, rows: str) -> int:
    [(count,)] = base.execute(f"SELECT count(*) FROM {rows}").fetchall()
    return int(count)


def _write(base: duckdb.DuckDBPyConnection, contract: TableContract, folder: Path) -> int:
    """Write a table's file in batches; returns the number of rows."""
    schema = contract.columns
    found = base.sql(f"SELECT {', '.join(schema.names)} FROM {_ROWS[contract.name]}")
    rows = 0
    with pq.ParquetWriter(folder / f"{contract.name}.parquet", schema) as writer:
        for batch in found.to_arrow_reader(_ROWS_PER_BATCH):
            writer.write_table(pa.Table.from_batches([batch]).cast(schema))
            rows += batch.num_rows
    return rows
