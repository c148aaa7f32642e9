"""Writes the event log as Parquet files: by day for warehouses and notebooks, and temporary ones for readouts.

`<out>/<table>/day=2026-05-01/data.parquet`, with the tables `searches`, `impressions` and `clicks`. Every engine
that knows Hive partitions reads them: `SELECT * FROM read_parquet('out/searches/*/*.parquet')` in DuckDB.

Events are read and written in batches, so memory does not grow with the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from immr.events.event_log import SCHEMAS, EventLog, EventTable
from immr.readout.event_views import Parquet
from immr.storage.atomic import writing_atomically

FILE = "data.parquet"
# searches first: each is written with its impressions, so those that were read have theirs. In another order, the
# newest searches would look as if they had found nothing
_SUNK: tuple[EventTable, ...] = ("searches", "clicks", "impressions")
_IN_ORDER: tuple[EventTable, ...] = (*_SUNK, "queries")


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
    days: set[str] = set()
    rows = {}
    for table in _SUNK:
        with closing(log.batches(table, since)) as batches:
            prepared = map(_with_null_context, batches) if table == "searches" else batches
            rows[table] = _write_days(prepared, out / table, days)
    return Sunk(out, len(days), rows["searches"], rows["impressions"], rows["clicks"])


@contextmanager
def on_disk(
    log: EventLog,
    since: datetime | None,
    *tables: EventTable,
    change: Callable[[pa.RecordBatch], pa.RecordBatch] | None = None,
) -> Iterator[Mapping[EventTable, Parquet]]:
    """Tables of the log in files, each in the order of the log, which are deleted at the end.

    If events arrive meanwhile, every search still has its impressions; later impressions may lack their search.

    Args:
        log: The event log.
        since: Only events from this time on.
        tables: Which ones.
        change: Applied to each batch; it keeps the columns and their types.

    Raises:
        EventLogError: The log is not available.
    """
    with TemporaryDirectory(prefix="immr-events-") as folder:
        files: dict[EventTable, Parquet] = {}
        for table in sorted(tables, key=_IN_ORDER.index):
            path = Path(folder) / f"{table}.parquet"
            with (
                closing(log.batches(table, since)) as batches,
                pq.ParquetWriter(path, SCHEMAS[table]) as writer,
            ):
                for batch in batches:
                    writer.write_batch(change(batch) if change else batch)
            files[table] = Parquet(str(path))
        yield files


def _with_null_context(searches: pa.RecordBatch) -> pa.RecordBatch:
    """Searches without a context have null: an empty text is not JSON, and an engine would refuse the column."""
    place = searches.schema.get_field_index("context")
    context = searches.column(place)
    given = pc.if_else(pc.equal(context, ""), pa.scalar(None, context.type), context)
    return searches.set_column(place, searches.schema.field(place), given)


def _write_days(batches: Iterable[pa.RecordBatch], folder: Path, days: set[str]) -> int:
    """Write one file per day from rows sorted by time, and add the days; returns the number of rows."""
    rows, current = 0, ""
    with ExitStack() as opened:
        for batch in batches:
            rows += batch.num_rows
            for day, part in _by_day(batch):
                if day != current:
                    opened.close()  # the file of the day before is complete
                    file = opened.enter_context(writing_atomically(folder / f"day={day}" / FILE))
                    writer = opened.enter_context(pq.ParquetWriter(file, batch.schema, compression="zstd"))
                    current = day
                    days.add(day)
                writer.write_batch(part)
    return rows


def _by_day(batch: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The parts of a batch whose rows are of one day, in order."""
    day_of = pc.strftime(batch["ts"], format="%Y-%m-%d")
    start = 0
    for run in pc.run_end_encode(day_of).run_ends.to_pylist():
        yield day_of[start].as_py(), batch.slice(start, run - start)
        start = run
