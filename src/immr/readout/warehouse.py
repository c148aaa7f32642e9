"""Events in a shop's warehouse: tables `impressions` and `searches`, with the columns that `immr events sink` writes.

What a readout needs is copied to Parquet files first, so that its result is the same as from any other source.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from immr.data.sources.warehouse import WarehousePart
from immr.errors import ContractError
from immr.readout.relations import ASKED, ASKED_OPTIONAL, SHOWN, SHOWN_OPTIONAL

TABLES = {"impressions": (*SHOWN, *SHOWN_OPTIONAL), "searches": (*ASKED, *ASKED_OPTIONAL)}
_EVER = datetime(1970, 1, 1, tzinfo=UTC)


def copy_events(url: str, since: datetime | None, folder: Path) -> None:
    """Write the events of a warehouse to `<table>.parquet`, in chunks.

    Args:
        url: Of the warehouse, as `data.sources.warehouse` takes it.
        since: Only events from this time on.
        folder: Where the files go.

    Raises:
        ContractError: The warehouse does not answer, lacks a table, or has no event of that time.
    """
    for table, columns in TABLES.items():
        part = WarehousePart(url, table)
        if not _write(part.batches_since("ts", since or _EVER, columns), folder / f"{table}.parquet"):
            since_when = f" since {since:%Y-%m-%d %H:%M} UTC" if since else ""
            raise ContractError(f"{part.place} has no rows{since_when}: load what `immr events sink` writes")


def _write(batches: Iterator[pa.RecordBatch], file: Path) -> bool:
    """Whether there were any rows."""
    writer = None
    for batch in batches:
        rows = _in_utc(pa.Table.from_batches([batch]))
        writer = writer or pq.ParquetWriter(file, rows.schema)
        writer.write_table(rows)
    if writer is None:
        return False
    writer.close()
    return True


def _in_utc(rows: pa.Table) -> pa.Table:
    """The rows with `ts` in UTC; a time without a zone is in UTC already."""
    place = rows.schema.get_field_index("ts")
    return rows.set_column(place, "ts", rows["ts"].cast(pa.timestamp("us", "UTC")))
