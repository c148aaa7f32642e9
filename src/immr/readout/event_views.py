"""Events as views in DuckDB, from tables in memory or from Parquet files of any size.

A warehouse's events are copied to such files first, so that a readout has the same result from every source.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa

from immr.data.sources.warehouse import WarehousePart
from immr.errors import ContractError, ExperimentError
from immr.experiment.definition import Experiment
from immr.storage.database import database

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, slots=True)
class Parquet:
    """Parquet files with the columns of the event log: a path, which may contain `*`, and a time span."""

    path: str
    since: datetime | None = None
    until: datetime | None = None  # exclusive


Relation: TypeAlias = pa.Table | Parquet
"""A source of events."""


SHOWN = {
    "query_id": "VARCHAR",
    "user_id": "VARCHAR",
    "variant": "VARCHAR",
    "model_version": "VARCHAR",
    "clicked": "BOOLEAN",
    "ordered": "BOOLEAN",
}
SHOWN_OPTIONAL = {
    "item_id": "VARCHAR",
    "position": "BIGINT",
    "ts": "TIMESTAMPTZ",
    "amount": "DOUBLE",
}
ASKED = dict.fromkeys(("query_id", "user_id", "variant", "model_version"), "VARCHAR") | {
    "fallback": "BOOLEAN"
}
ASKED_OPTIONAL = {"ts": "TIMESTAMPTZ", "took_ms": "DOUBLE", "results": "BIGINT", "context": "VARCHAR"}

_OF_WAREHOUSE = {  # searches first, as in `immr.events.sink`
    "searches": (*ASKED, *ASKED_OPTIONAL),
    "impressions": (*SHOWN, *SHOWN_OPTIONAL),
}
_EVER, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


def split_at_start(
    joined: Parquet, experiment: Experiment, reach: timedelta
) -> tuple[Parquet, Parquet | None]:
    """The test's impressions, and those that CUPED may use: of the time before anyone saw a challenger.

    After a ramp the readout restarts, but some users have already seen a challenger. So the time before ends at the
    challengers' first impression if that comes before `started`.

    Args:
        joined: Impressions, or queries as the event log sums them up.
        experiment: Its start and versions.
        reach: How long before the start.

    Raises:
        ExperimentError: a file is missing, or does not have the event log's columns.
    """
    if experiment.started is None or not experiment.challengers:
        return replace(joined, since=experiment.started), None
    start = experiment.started - reach
    with database() as base:
        early = Parquet(joined.path, start, experiment.started)
        view(base, "early", early, {"model_version": "VARCHAR", "ts": "TIMESTAMPTZ"}, what="impressions")
        base.execute(
            "SELECT epoch_us(min(ts)) FROM early WHERE list_contains($versions, model_version)",
            {"versions": [each.model_version for each in experiment.challengers]},
        )
        [(first,)] = base.fetchall()
    until = experiment.started if first is None else datetime.fromtimestamp(first / 1e6, UTC)
    return replace(joined, since=experiment.started), replace(joined, since=start, until=until)


def until_end(
    base: duckdb.DuckDBPyConnection, experiment: Experiment | None, views: Mapping[str, str]
) -> datetime | None:
    """Create views of tables with events until a test was stopped, as afterwards all users count for the champion.

    An earlier release did not record when a test was stopped: such a test ends with the last query of a challenger's
    user.

    Args:
        base: Database with the tables.
        experiment: The test, if there is one.
        views: The name of each view, with that of its table.

    Returns:
        The end; None if the test is not stopped.
    """
    end = None
    if experiment is not None and experiment.state == "stopped":
        end = experiment.stopped_at or _last(base, experiment, views.values())
    bound = "" if end is None else f"WHERE ts IS NULL OR ts <= '{end.isoformat()}'::TIMESTAMPTZ"
    for name, table in views.items():
        base.execute(f"CREATE VIEW {name} AS FROM {table} {bound}")
    return end


def _last(base: duckdb.DuckDBPyConnection, experiment: Experiment, tables: Iterable[str]) -> datetime | None:
    """When a challenger's user searched last; None if none has."""
    events = " UNION ALL ".join(f"SELECT variant, ts FROM {table}" for table in tables)
    [(until,)] = base.execute(
        f"SELECT max(epoch_us(ts)) FROM ({events}) WHERE list_contains($names, variant)",
        {"names": [each.name for each in experiment.challengers]},
    ).fetchall()
    return None if until is None else _EVER + until * _MICROSECOND


def view(
    base: duckdb.DuckDBPyConnection,
    name: str,
    relation: Relation,
    columns: Mapping[str, str],
    optional: Mapping[str, str] | None = None,
    *,
    what: str,
) -> None:
    """Create a view with these columns and types; missing optional columns are null.

    Raises:
        ExperimentError: a column is missing, or a file cannot be read; the message names `what`.
    """
    import duckdb

    source = f"{name}_source"
    if isinstance(relation, Parquet):
        try:
            base.execute(f"CREATE VIEW {source} AS {_scan(relation)}")
        except duckdb.Error as error:
            reason = str(error).partition("\n")[0]
            raise ExperimentError(
                f"the {what} in {relation.path} cannot be read ({reason}): check the path and the columns"
            ) from error
    else:
        base.register(source, relation)
    there = {row[0] for row in base.execute(f"DESCRIBE {source}").fetchall()}
    if missing := [column for column in columns if column not in there]:
        raise ExperimentError(
            f"the table of {what} has no column {', '.join(missing)}: add it as in the event log's export"
        )
    typed = [
        f"{column if column in there else 'NULL'}::{kind} AS {column}"
        for column, kind in {**columns, **(optional or {})}.items()
    ]
    base.execute(f"CREATE VIEW {name} AS SELECT {', '.join(typed)} FROM {source}")


def _scan(files: Parquet) -> str:
    path = files.path.replace("'", "''")
    bounds = [
        f"ts {comparison} '{moment.isoformat()}'::TIMESTAMPTZ"
        for comparison, moment in ((">=", files.since), ("<", files.until))
        if moment is not None
    ]
    # by name, because files of an older release lack the newest columns
    return f"FROM read_parquet('{path}', union_by_name = true)" + (
        f" WHERE {' AND '.join(bounds)}" if bounds else ""
    )


def copy_events(url: str, since: datetime | None, folder: Path) -> None:
    """Write the events of a warehouse to `<table>.parquet`, in chunks.

    Args:
        url: Of the warehouse, as `data.sources.warehouse` takes it.
        since: Only events from this time on.
        folder: Where the files go.

    Raises:
        ContractError: The warehouse does not answer, lacks a table, or has no event of that time.
    """
    for table, columns in _OF_WAREHOUSE.items():
        part = WarehousePart(url, table)
        if not _write(part.batches_since("ts", since or _EVER, columns), folder / f"{table}.parquet"):
            since_when = f" since {since:%Y-%m-%d %H:%M} UTC" if since else ""
            raise ContractError(f"{part.place} has no rows{since_when}: load what `immr events sink` writes")


def _write(batches: Generator[pa.RecordBatch], file: Path) -> bool:
    """Write the batches; returns whether there were any rows."""
    import pyarrow.parquet as pq

    with closing(batches), ExitStack() as opened:
        writer = None
        for batch in batches:
            rows = _in_utc(pa.Table.from_batches([batch]))
            writer = writer or opened.enter_context(pq.ParquetWriter(file, rows.schema))
            writer.write_table(rows)
    return writer is not None


def _in_utc(rows: pa.Table) -> pa.Table:
    """The rows with `ts` in UTC; a time without a zone is in UTC already."""
    place = rows.schema.get_field_index("ts")
    return rows.set_column(place, "ts", rows["ts"].cast(pa.timestamp("us", "UTC")))
