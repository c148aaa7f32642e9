"""Readout, export and drift over an event log of any size that is in Parquet files already.

    python -m benchmarks.event_files --impressions 100000000 --json event_files.json

The log is written by DuckDB: two weeks, 10 impressions a search, 5 searches a user, a click in half of the searches,
a kept photo in a tenth. `benchmarks.event_memory` measures the same steps with the event log's own database, which
is slower to fill. `drift` is what it reads from the log, without embeddings. Each step runs in its own process; the
peak is the process's (`ru_maxrss`), disk is what DuckDB spilled at most, looked at every 0.2 s.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.event_memory import DAYS, ITEMS, PER_SEARCH, PER_USER, PHOTO_EVERY
from benchmarks.figures import JsonFile, write_figures

STEPS = ("readout", "readout by day", "export", "drift")
_MIB = 2**20
_SHOWN = {"peak_mib": "peak MiB", "disk_mib": "disk MiB", "cpu_s": "CPU s"}


def write(folder: Path, impressions: int) -> None:
    """Write `impressions-*.parquet`, `searches.parquet` and `photos.parquet`."""
    import duckdb

    folder.mkdir(parents=True, exist_ok=True)
    end_us, span_us = int(datetime.now(UTC).timestamp() * 1e6), int(DAYS * 86_400e6)
    searches, parts = impressions // PER_SEARCH, max(1, impressions // 10_000_000)
    with duckdb.connect() as base:
        base.execute("SET preserve_insertion_order = false; SET TimeZone = 'UTC'; SET memory_limit = '2GB'")
        for part in range(parts):
            first, last = searches * part // parts, searches * (part + 1) // parts
            base.execute(
                f"""CREATE OR REPLACE TABLE asked AS
                SELECT n, md5(n::VARCHAR) || '-1' AS query_id,
                    'user-' || md5((n // {PER_USER})::VARCHAR) AS user_id,
                    CASE WHEN n // {PER_USER} % 2 = 0 THEN 'champion' ELSE 'challenger' END AS variant,
                    CASE WHEN n // {PER_USER} % 2 = 0 THEN 'immr-1' ELSE 'immr-2' END AS model_version,
                    make_timestamptz({end_us} - {span_us} + ({span_us} * ((n + 1) / {searches}))::BIGINT) AS ts
                FROM range({first}, {last}) t(n)"""
            )
            base.execute(
                f"""COPY (SELECT query_id, user_id, variant, model_version, ts, false AS fallback, 12.5 AS took_ms,
                    {PER_SEARCH} AS results, '' AS context FROM asked) TO '{folder}/searches-{part}.parquet'"""
            )
            base.execute(
                f"""COPY (SELECT query_id, 'photo.jpg' AS image FROM asked WHERE n % {PHOTO_EVERY} = 0)
                TO '{folder}/photos-{part}.parquet'"""
            )
            base.execute(
                f"""COPY (SELECT query_id, 'item-' || (n * 7 + place * 13) % {ITEMS} AS item_id, place AS position,
                    user_id, variant, model_version, ts, n % 2 = 0 AND place = 1 + n // 2 % 3 AS clicked,
                    clicked AND n % 20 = 0 AS ordered, NULL::DOUBLE AS amount
                FROM asked, range(1, {PER_SEARCH + 1}) p(place)) TO '{folder}/impressions-{part}.parquet'"""
            )


def run_step(step: str, folder: Path) -> dict[str, Any]:
    """Seconds, CPU seconds, peak of memory and of spilled disk in MiB, and what came out, in this process."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="immr-spill-") as spill, _Watched(Path(spill)) as watched:
        tempfile.tempdir = spill
        found = _run(step, folder, Path(spill))
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "s": time.perf_counter() - began,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_mib": used.ru_maxrss / 1024,
        "disk_mib": watched.most / _MIB,
        "found": found,
    }


def _run(step: str, folder: Path, scratch: Path) -> Any:
    from immr.drift.recent_behaviour import recent
    from immr.events.export import export
    from immr.experiment.definition import Experiment, Variant
    from immr.loop import watch
    from immr.readout.event_views import Parquet
    from immr.settings import Settings
    from immr.wiring import Parts

    shown, asked = (Parquet(f"{folder}/{table}-*.parquet") for table in ("impressions", "searches"))
    photos = folder / "photos-*.parquet"
    match step:
        case "export":
            return export(shown, asked, photos, scratch / "export").impressions
        case "drift":
            categories = {f"item-{at}": f"category-{at % 20}" for at in range(ITEMS)}
            seen = recent(shown, asked, photos, categories, 500, 0)
            return [len(seen.photos), sum(seen.categories.values())]
    started = datetime.now(UTC) - timedelta(days=DAYS / 2)
    sides = [
        Variant(name, f"http://{name}:1", f"immr-{at}", 0.5)
        for at, name in enumerate(("champion", "challenger"), 1)
    ]
    test = Experiment("first", "salt", tuple(sides), started=started)
    with Parts.of(Settings(home=scratch / "home")) as parts:
        read = watch.read_out(parts, folder, ["day"] if step.endswith("day") else [], test)
    return [[side.users, side.impressions, side.clicks] for side in read.readout.variants]


class _Watched:
    """The most that was ever below a folder, in bytes, during the block."""

    def __init__(self, folder: Path):
        self._folder, self._ended, self.most = folder, threading.Event(), 0
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> _Watched:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.2):
            sizes = [
                (Path(place) / name).lstat().st_size
                for place, _, names in os.walk(self._folder)
                for name in names
                if (Path(place) / name).exists()
            ]
            self.most = max(self.most, sum(sizes))


def main(
    impressions: Annotated[list[int], typer.Option(help="Sizes of the logs.")] = [10_000_000, 100_000_000],  # noqa: B006
    step: Annotated[str, typer.Option(help="Run only this, in this process.")] = "",
    folder: Annotated[
        Path | None, typer.Option(help="Of this log; kept, and written if it is not there.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Measure and print a table."""
    if step:
        assert folder is not None
        print(json.dumps(run_step(step, folder)))
        return
    found: dict[str, dict[int, dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="immr-event-files-") as temporary:
        for count in impressions:
            log = (folder or Path(temporary)) / f"{count}-impressions"
            if not log.is_dir():
                write(log, count)
            for name in STEPS:
                command = [
                    sys.executable,
                    "-m",
                    "benchmarks.event_files",
                    "--step",
                    name,
                    "--folder",
                    str(log),
                ]
                done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
                found.setdefault(name, {})[count] = json.loads(done.stdout.splitlines()[-1])
                print(f"{count:,} {name}: {found[name][count]}", file=sys.stderr, flush=True)
    columns = [(what, unit, count) for what, unit in _SHOWN.items() for count in impressions]
    table = Table("step", *(f"{unit}, {count:,}" for _, unit, count in columns))
    for name, by_count in found.items():
        table.add_row(name, *(f"{by_count[count][what]:,.0f}" for what, _, count in columns))
    Console().print(table)
    write_figures(json_file, found)


if __name__ == "__main__":
    typer.run(main)
