"""How long does a readout take? Made-up users in Parquet, read out as `immr experiment readout --from` does.

    python -m benchmarks.experiment.readout_time                              # 10 million impressions
    python -m benchmarks.experiment.readout_time --impressions 100000000 --json out.json

Beside it stands the least that any readout must do: count impressions and clicks by user, in the same DuckDB.
"""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import duckdb
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.experiment.sink_completeness import parquet_equals_journal
from benchmarks.figures import JsonFile, write_figures
from immr.experiment.definition import Experiment, Variant
from immr.readout.comparison import Comparison
from immr.readout.event_views import Parquet, split_at_start
from immr.readout.readout import readout

PER_QUERY = 10
QUERIES_PER_USER = 5
DAYS = 21
TEST_DAYS = 14
BOTS = 20
ONE_IN_BOT = 200  # queries
ONE_IN_FALLBACK = 500
START = datetime(2026, 9, 1, tzinfo=UTC)

_QUERIES = """CREATE TEMP TABLE asked AS
    WITH numbered AS (
        SELECT range AS n, hash(n, 8) % {one_in_bot} = 0 AS bot,
            if(bot, {users} + hash(n, 9) % {bots}, hash(n, 1) % {users}) AS user,
            hash(user, 2) % 2 = 1 AND n >= {test_from} AS new,
            if(bot, 0, 0.3 * ((hash(user, 4) % 10000) / 10000.0) ** 4) AS rate,
            n >= {test_from} AND hash(n, 7) % {one_in_fallback} = 0 AS fallback
        FROM range({queries}))
    SELECT md5(n::VARCHAR) AS query_id, md5('user' || user) AS user_id,
        make_timestamptz({start_us} + n * {step_us}) AS ts,
        if(new, 'challenger', 'champion') AS variant,
        if(new <> fallback, 'immr-2', 'immr-1') AS model_version,
        5 + 20 * (hash(n, 3) % 1000) / 1000.0 AS took_ms, {per_query} AS results, false AS degraded,
        fallback, rate * if(new, 1.02, 1) AS rate
    FROM numbered"""

_IMPRESSIONS = """SELECT query_id, user_id, position, variant, model_version, ts,
        md5((hash(query_id, position, 5) % 100000)::VARCHAR) AS item_id,
        (hash(query_id, position, 6) % 1000000) / 1e6 < rate AS clicked,
        (hash(query_id, position, 6) % 1000000) / 1e6 < rate / 10 AS ordered
    FROM asked, range(1, {per_query} + 1) ranks(position)"""


def write(folder: Path, impressions: int, threads: int) -> None:
    """An event log's two tables: users come back, each clicks at a rate of their own; bots, and fallbacks."""
    queries = impressions // PER_QUERY
    with duckdb.connect(config={"threads": threads}) as base:
        base.execute("SET enable_progress_bar = false")
        base.execute(
            _QUERIES.format(
                queries=queries,
                users=max(queries // QUERIES_PER_USER, 1),
                start_us=int(START.timestamp() * 1e6),
                step_us=max(DAYS * 86_400_000_000 // queries, 1),
                test_from=queries * (DAYS - TEST_DAYS) // DAYS,
                per_query=PER_QUERY,
                bots=BOTS,
                one_in_bot=ONE_IN_BOT,
                one_in_fallback=ONE_IN_FALLBACK,
            )
        )
        for name, sql in (
            ("searches", "FROM asked SELECT * EXCLUDE rate"),
            ("impressions", _IMPRESSIONS.format(per_query=PER_QUERY)),
        ):
            base.execute(f"COPY ({sql}) TO '{folder / name}.parquet' (FORMAT parquet, COMPRESSION zstd)")


def least(path: Path) -> float:
    """Seconds for nothing but impressions and clicks by user."""
    started = time.perf_counter()
    with duckdb.connect() as base:
        base.execute(
            f"SELECT variant, user_id, count(*), count(*) FILTER (clicked) FROM '{path}' GROUP BY ALL"
        ).fetchall()
    return time.perf_counter() - started


def main(
    impressions: Annotated[int, typer.Option(help="How many.")] = 10_000_000,
    threads: Annotated[int, typer.Option(help="Of DuckDB, while writing.")] = 2,
    folder: Annotated[Path | None, typer.Option(help="Where the Parquet is put, and deleted again.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Write, read out with CUPED and all that stands beside the CTR, and delete."""
    began = START + timedelta(days=DAYS - TEST_DAYS)
    sides = (Variant("champion", "http://a", "immr-1", 0.5), Variant("challenger", "http://b", "immr-2", 0.5))
    test = Experiment("benchmark", "salt", sides, started=began)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        here = Path(name)
        # apart, so that the peak of memory is the readout's
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as writer:
            writer.submit(write, here, impressions, threads).result()
        size = sum(path.stat().st_size for path in here.iterdir())
        started, cpu_started = time.perf_counter(), time.process_time()
        joined, before = split_at_start(Parquet(f"{here}/impressions.parquet"), test, timedelta(days=14))
        searches = Parquet(f"{here}/searches.parquet", since=began)
        found = readout(joined, test, searches, before=before)
        took_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
        cuped = found.arms[0].cuped if found.arms else None
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
        least_s = least(here / "impressions.parquet")
        (here / "sink").mkdir()
        equal = parquet_equals_journal(here / "sink")
    figures = {
        "impressions": impressions,
        "parquet_gib": size / 1024**3,
        "users": sum(side.users for side in found.variants),
        "queries_of_bots_left_out": sum(marked.queries for marked in found.bots),
        "fallback_queries_left_out": found.fallback_queries,
        "readout_s": took_s,
        "readout_cpu_s": cpu_s,  # of all cores: what a machine that others use does not blur
        "peak_memory_gib": peak,
        "sums_by_user_alone_s": least_s,
        "times_the_least": took_s / least_s,
        "relative_lift": found.ctr.relative_lift if found.ctr else None,
        "parquet_equals_journal": float(equal),
        "cuped_width": _width(cuped) / _width(found.ctr) if cuped and found.ctr else None,
    }
    table = Table("figure", "value", title="Readout of Parquet")
    for figure, value in figures.items():
        table.add_row(figure, "–" if value is None else f"{value:,.3f}".removesuffix(".000"))
    Console().print(table)
    write_figures(json_file, figures)


def _width(comparison: Comparison) -> float:
    return comparison.interval.high - comparison.interval.low


if __name__ == "__main__":
    typer.run(main)
