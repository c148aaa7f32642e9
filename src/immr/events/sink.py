"""Writes the event log as Parquet files by day, for warehouses and notebooks.

`<out>/<table>/day=2026-05-01/data.parquet`, with the tables `searches`, `impressions` and `clicks`. Every engine
that knows Hive partitions reads them: `SELECT * FROM read_parquet('out/searches/*/*.parquet')` in DuckDB.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from immr.events.event_log import EventLog
from immr.storage.atomic import write_atomically

FILE = "data.parquet"


@dataclass(frozen=True)
class Sunk:
    """Rows written, by table."""

    folder: Path
    days: int
    searches: int
    impressions: int
    clicks: int


def sink(log: EventLog, out: Path, since: datetime | None = None) -> Sunk:
    """Write all days from that of `since` on; each file is replaced as a whole.

    Run again, it writes the same files, and those of days that have changed. Days that the log has dropped stay.

    Args:
        log: The event log.
        out: The folder of the tables.
        since: The first day to write, in UTC; by default all. A click may come a day after its impression, so
            a daily run starts two days back.

    Raises:
        EventLogError: The log is not available.
    """
    if since is not None:
        since = since.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    tables = {
        "searches": _with_null_context(log.searches(since)),
        "impressions": log.joined(since),
        "clicks": log.clicks(since),
    }
    days: set[str] = set()
    for name, table in tables.items():
        days |= _write(table, out / name)
    return Sunk(out, len(days), **{name: table.num_rows for name, table in tables.items()})


def _with_null_context(searches: pa.Table) -> pa.Table:
    """Searches without a context have null: an empty text is not JSON, and an engine would refuse the column."""
    place = searches.schema.get_field_index("context")
    context = searches.column(place)
    given = pc.if_else(pc.equal(context, ""), pa.scalar(None, context.type), context)
    return searches.set_column(place, searches.schema.field(place), given)


def _write(table: pa.Table, folder: Path) -> set[str]:
    """Write one file per day; returns the days."""
    day_of = pc.strftime(table["ts"], format="%Y-%m-%d")
    days = set(pc.unique(day_of).to_pylist())
    for day in days:
        content = io.BytesIO()
        pq.write_table(table.filter(pc.equal(day_of, day)), content, compression="zstd")
        write_atomically(folder / f"day={day}" / FILE, content.getvalue())
    return days
