"""How soon is the page there with a million events? A filled event log, the page's own process, a stopwatch.

python -m benchmarks.page                        # a million impressions, a hundred thousand searches
python -m benchmarks.page --json out.json
"""

from __future__ import annotations

import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.figures import JsonFile, write_figures
from immr.events.sqlite.log import SqliteEventLog
from immr.experiment.assignment import assign
from immr.experiment.definition import Experiment, Variant
from immr.experiment.file import save
from immr.types import Click, Impression, SearchRecord

PER_QUERY = 10
QUERIES_PER_USER = 5
DAYS = 7


def fill(home: Path, impressions: int) -> None:
    """An experiment of a week, and what its users saw and clicked."""
    start = datetime.now(UTC) - timedelta(days=DAYS)
    sides = (Variant("champion", "http://a", "immr-1", 0.5), Variant("challenger", "http://b", "immr-2", 0.5))
    test = Experiment("benchmark", "salt", sides, started=start)
    save(test, home / "experiment" / "experiment.json")
    log = SqliteEventLog(home / "events" / "events.db", synchronous="NORMAL")
    dice, queries = random.Random(0), impressions // PER_QUERY
    for first in range(0, queries, 1000):
        with log.batch():
            for query in range(first, min(first + 1000, queries)):
                _search(log, test, query, start + timedelta(days=DAYS) * (query / queries), dice, queries)
    log.close()


def _search(
    log: SqliteEventLog, test: Experiment, number: int, ts: datetime, dice: random.Random, queries: int
) -> None:
    user, query = f"user-{dice.randrange(queries // QUERIES_PER_USER)}", f"query-{number:032d}"
    side = assign(test, user)
    shown = [
        Impression(query, f"item-{dice.randrange(5000)}", place, user, side.name, side.model_version, ts)
        for place in range(1, PER_QUERY + 1)
    ]
    log.record_search(
        SearchRecord(query, user, ts, side.name, side.model_version, 20 + 30 * dice.random(), PER_QUERY),
        shown,
    )
    clicked = {one.item_id for one in shown if dice.random() < 0.1 / one.position}
    log.record_clicks([Click(f"{query}-{item}", "click", query, item, ts) for item in clicked])


def measure(home: Path) -> dict[str, float]:
    """Seconds to the first view of a page that has just started, until it is whole, and of later views."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "dashboards", f"--port={port}"]
    process = subprocess.Popen(command, env=os.environ | {"IMMR_HOME": str(home)})
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False) as client:
            while not _is_up(client):
                assert process.poll() is None, "the page ended"
                time.sleep(0.02)
            started = time.perf_counter()
            page = client.get("/").text
            first = time.perf_counter() - started
            for name in re.findall(r'hx-get="/sections/(\w+)\?seen="', page):
                while client.get(f"/sections/{name}").raise_for_status().status_code == 204:
                    pass  # not there yet, after the 20 s that the page waits for a section
            whole = time.perf_counter() - started
            later = []
            for _ in range(20):
                started = time.perf_counter()
                assert "Reading the event log" not in client.get("/").text
                later.append(time.perf_counter() - started)
                time.sleep(0.5)
    finally:
        process.terminate()
        process.wait(timeout=30)
    return {
        "first_view_after_start_s": first,
        "all_sections_after_start_s": whole,
        "view_median_s": sorted(later)[10],
        "view_slowest_of_20_s": max(later),
    }


def _is_up(client: httpx.Client) -> bool:
    try:
        return client.get("/health/live").is_success
    except httpx.TransportError:
        return False


def main(
    impressions: Annotated[int, typer.Option(help="How many.")] = 1_000_000,
    json_file: JsonFile = None,
) -> None:
    """Fill a log, start the page, look at it."""
    with tempfile.TemporaryDirectory() as name:
        fill(Path(name), impressions)
        figures = {"impressions": impressions, **measure(Path(name))}
    table = Table("figure", "value", title="The page")
    for figure, value in figures.items():
        table.add_row(figure, f"{value:,.3f}".removesuffix(".000"))
    Console().print(table)
    write_figures(json_file, figures)


if __name__ == "__main__":
    typer.run(main)
