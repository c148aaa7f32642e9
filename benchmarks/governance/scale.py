"""How fast a click log of any size becomes a training set, and in how much memory.

The log is made by DuckDB from hashes: lists of eight items of one category, the right one among them; one
item in twenty has a twin, another offer of the same thing, beside it. All of `govern` runs, the data contract
and the manifest's hashes included; only pictures are not looked at, for there are none. One process per size.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.figures import JsonFile, write_figures
from immr.governance.govern import govern
from immr.governance.governance_recipe import GovernanceRecipe

RECIPE = replace(GovernanceRecipe(), check_images=False, clean_labels=False, balance_classes=True)


def scale(
    rows: Annotated[list[int] | None, typer.Option(help="Rows of impressions.")] = None,
    engine: Annotated[str, typer.Option(help="Engine URL.")] = "duckdb://",
    scratch: Annotated[Path | None, typer.Option(help="Where the log is made, and deleted.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Rows a second and memory by size of the log."""
    found = []
    for size in rows or [1_000_000, 10_000_000]:
        with TemporaryDirectory(dir=scratch) as folder:
            make_log(size, Path(folder))
            command = [sys.executable, "-m", "benchmarks.governance", "one-size", str(size), folder, engine]
            found.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    table = Table(title=f"govern on {engine}, pictures aside")
    for column in ("rows", "seconds", "rows/s", "CPU s", "peak GiB", "queries out", "classes"):
        table.add_column(column, justify="right")
    for one in found:
        speed = f"{one['seconds']:.1f}", f"{one['rows_per_s']:,.0f}", f"{one['cpu_seconds']:.1f}"
        sizes = f"{one['peak_gib']:.2f}", f"{one['queries']:,}", f"{one['classes']:,}"
        table.add_row(f"{one['rows']:,}", *speed, *sizes)
    Console().print(table)
    by_size = {str(one["rows"]): one["rows_per_s"] for one in found}
    write_figures(json_file, {"rows_per_s": by_size, "scale": found})


def one_size(rows: int, folder: Path, engine: str) -> None:
    """One size, measured in this process."""
    began = time.perf_counter()
    manifest = govern(folder, folder / "set", RECIPE, engine).manifest
    seconds = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        "rows": rows,
        "seconds": seconds,
        "rows_per_s": rows / seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_gib": used.ru_maxrss / 2**20,
        "queries": manifest["outputs"]["queries"]["rows"],
        "classes": manifest["classes"],
        "hash": manifest["hash"],
    }
    print(json.dumps(figures))


def make_log(rows: int, folder: Path) -> None:
    """Write items, queries and impressions."""
    import duckdb

    queries, items = rows // 8, max(rows // 1600, 100) * 20
    with duckdb.connect() as made:
        made.execute("SET preserve_insertion_order = false; SET TimeZone = 'UTC'")
        made.execute(
            f"""
            COPY (
                SELECT 'i' || i AS item_id, 'Thing ' || i AS title, '' AS description,
                    'c' || i // 20 AS category, '/none.jpg' AS image, 1.0 AS price,
                    TIMESTAMPTZ '2025-12-01' AS updated_at
                FROM range({items}) t(i)
            ) TO '{folder}/items.parquet'
            """
        )
        moment = "TIMESTAMPTZ '2026-01-01' + to_seconds((hash(q) % 2419200)::BIGINT) AS ts"
        made.execute(
            f"""
            COPY (
                SELECT 'q' || q AS query_id, 'u' || hash(q) % 100000 AS user_id, {moment},
                    '/none.jpg' AS image
                FROM range({queries}) t(q)
            ) TO '{folder}/queries.parquet'
            """
        )
        made.execute(
            f"""
            COPY (
                SELECT 'q' || q AS query_id, 'i' || (home // 20 * 20 + (home % 20 + step) % 20) AS item_id,
                    1 + (k + turn) % 8 AS position,
                    chance < CASE WHEN k = 0 THEN 0.8 WHEN twin THEN 0.75 ELSE 0.03 END AS clicked,
                    k = 0 AND chance < 0.25 AS ordered, 'control' AS variant,
                    'former' AS model_version, {moment}
                FROM (
                    SELECT q, k, home, hash(q + 2) % 8 AS turn, hash(8 * q + k) % 1000000 / 1e6 AS chance,
                        CASE k WHEN 1 THEN 1 WHEN 7 THEN 3 ELSE 3 * k END AS step,
                        k = 1 AND home % 20 = 7 AS twin
                    FROM (SELECT q, hash(q + 1) % {items} AS home FROM range({queries}) t(q)), range(8) s(k)
                )
            ) TO '{folder}/impressions.parquet'
            """
        )
