"""How much memory do the steps that read the event log take, and does it grow with the log?

python -m benchmarks.event_memory --impressions 1000000 --impressions 4000000

Each step runs in its own process over a SQLite log of two weeks with 10 impressions a search and 5 searches a user.
Half of the searches have a click and a tenth have a kept photo. Drift embeds nothing here: its embeddings are random.
The peak is the process's (`ru_maxrss`).
"""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.figures import JsonFile, write_figures

PER_SEARCH, CLICK_EVERY, PHOTO_EVERY, PER_USER, ITEMS = 10, 2, 10, 5, 20_000
DAYS, DIM = 14, 16
STEPS = ("import", "sink", "export", "readout", "readout by day", "plan", "drift", "push")
_ROWS = 100_000


def write(home: Path, impressions: int) -> None:
    """An event log with a running test, an index of kept photos, and a click log of 1,000 rows."""
    from immr.events.sqlite.log import SqliteEventLog
    from immr.experiment.definition import Experiment, Variant
    from immr.experiment.file import save
    from immr.settings import Settings

    settings, searches = Settings(home=home), impressions // PER_SEARCH
    end = datetime.now(UTC)
    sides = [
        Variant(name, f"http://{name}:1", f"immr-{at}", 0.5)
        for at, name in enumerate(("champion", "challenger"), 1)
    ]
    save(
        Experiment("first", "salt", tuple(sides), started=end - timedelta(days=DAYS / 2)),
        settings.experiment_file,
    )
    path = home / "events" / "events.db"
    SqliteEventLog(path).close()
    (settings.photos_dir / "00").mkdir(parents=True)
    (settings.photos_dir / "00" / "photo.jpg").write_bytes(b"\xff\xd8\xff photo")
    with closing(sqlite3.connect(path)) as base, (settings.photos_dir / "queries.jsonl").open("w") as photos:
        base.execute("PRAGMA synchronous = OFF")
        for start in range(0, searches, _ROWS // PER_SEARCH):
            for at in range(start, min(start + _ROWS // PER_SEARCH, searches)):
                _write_search(base, at, searches, end)
                if at % PHOTO_EVERY == 0:
                    photos.write(
                        json.dumps({"query_id": f"query-{at:032d}", "photo": "00/photo.jpg", "ts": None})
                        + "\n"
                    )
            base.commit()
    _write_click_log(home / "shop", end)


def _write_search(base: sqlite3.Connection, at: int, searches: int, end: datetime) -> None:
    side = at // PER_USER % 2
    ts = int((end.timestamp() - DAYS * 86_400 * (1 - (at + 1) / searches)) * 1e6)
    query, user, of = (
        f"query-{at:032d}",
        f"user-{at // PER_USER:012d}",
        (("champion", "challenger")[side], f"immr-{side + 1}"),
    )
    base.execute("INSERT INTO searches VALUES (?, ?, ?, ?, ?, 12.5, 10, 0, 0, '')", (query, user, ts, *of))
    items = [
        (query, f"item-{(at * 7 + place * 13) % ITEMS}", place, user, *of, ts)
        for place in range(1, PER_SEARCH + 1)
    ]
    base.executemany("INSERT INTO impressions VALUES (?, ?, ?, ?, ?, ?, ?)", items)
    if at % CLICK_EVERY == 0:
        item = items[at // CLICK_EVERY % 3][1]
        base.execute(
            "INSERT INTO clicks VALUES (?, 'click', ?, ?, ?, NULL)", (f"{query}/c", query, item, ts + 5)
        )


def _write_click_log(folder: Path, end: datetime) -> None:
    from immr.data.contract import IMPRESSIONS

    folder.mkdir()
    rows = [
        (f"older-{at}", f"item-{at}", 1, at % 2 == 0, False, "control", "former", end) for at in range(1000)
    ]
    columns = [
        pa.array(values, field.type)
        for values, field in zip(zip(*rows, strict=True), IMPRESSIONS.columns, strict=True)
    ]
    pq.write_table(pa.Table.from_arrays(columns, schema=IMPRESSIONS.columns), folder / "impressions.parquet")


def run_step(step: str, home: Path) -> dict[str, Any]:
    """Seconds, CPU seconds, peak in MiB and what came out, of one step in this process."""
    from immr.loop import materialize, watch
    from immr.loop.experiment import plan
    from immr.settings import Settings
    from immr.wiring import Parts

    began, parts = time.perf_counter(), Parts.of(Settings(home=home), features=_Features())
    with tempfile.TemporaryDirectory(dir=home) as out:
        found: Any = None
        match step:
            case "sink":
                found = watch.sink_events(parts, Path(out) / "sink").impressions
            case "export":
                found = watch.export_events(parts, Path(out) / "export").impressions
            case "readout" | "readout by day":
                read = watch.read_out(parts, by=["day"] if step.endswith("day") else [])
                found = [[side.users, side.impressions, side.clicks] for side in read.readout.variants]
            case "plan":
                found = plan.planned_users(parts, ("immr-1", "http://champion:1"), 0.5)
            case "drift":
                found = _drift(parts)
            case "push":
                found = materialize.push(parts, cast("Any", _Catalogue()), home / "shop", personal=True).users
    parts.close()
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "s": time.perf_counter() - began,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_mib": used.ru_maxrss / 1024,
        "found": found,
    }


def _drift(parts: Any) -> list[bool | None]:
    from immr.loop import drift as drifting

    def unit_rows(count: int) -> Any:
        rows = np.random.default_rng(0).normal(size=(count, DIM)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    vars(drifting)["embed_photos"] = lambda folder, uris: unit_rows(len(uris))
    vars(drifting)["_documents"] = lambda *_: unit_rows(100)
    parts.__dict__["registry"] = SimpleNamespace(fetch=lambda *_: Path())
    report = drifting.drift(
        parts, cast("Any", SimpleNamespace(id="immr-1")), cast("Any", _Catalogue()), days=DAYS
    )
    return [each.found for each in report.findings]


class _Catalogue:
    """What the steps read of a training set."""

    def __init__(self) -> None:
        self.categories = {f"item-{at}": f"category-{at % 20}" for at in range(ITEMS)}
        self.item_classes, self.unseen_classes = list(range(ITEMS)), frozenset[int]()
        self.item_ids = frozenset(self.categories)

    @property
    def judgements(self) -> list[Any]:
        """A thousand held-out photos."""
        return [SimpleNamespace(class_id=at, image="photo.jpg") for at in range(1000)]

    @property
    def items(self) -> list[Any]:
        """The catalogue."""
        from immr.types import Item

        now = datetime.now(UTC)
        return [Item(id, "", "", category, "", 1.0, now) for id, category in self.categories.items()]


class _Features:
    """A feature store that only counts."""

    has_users = True

    def push(self, stats: pa.Table, users: pa.Table | None = None) -> int:
        """The number of items."""
        return stats.num_rows

    def freshness(self) -> datetime:
        """Just now."""
        return datetime.now(UTC)


def measure(impressions: list[int]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Every step over logs of these sizes."""
    for count in impressions:
        with tempfile.TemporaryDirectory(prefix="immr-event-memory-") as home:
            write(Path(home), count)
            for step in STEPS:
                command = [sys.executable, "-m", "benchmarks.event_memory", "--step", step, "--home", home]
                environment = os.environ | {"OMP_NUM_THREADS": "1"}
                done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=environment)
                yield count, step, json.loads(done.stdout.splitlines()[-1])


def main(
    impressions: Annotated[list[int], typer.Option(help="Sizes of the logs.")] = [1_000_000, 4_000_000],  # noqa: B006
    step: Annotated[str, typer.Option(help="Run only this, in this process.")] = "",
    home: Annotated[Path, typer.Option(help="Of this log.")] = Path(),
    json_file: JsonFile = None,
) -> None:
    """Measure and print a table."""
    if step:
        print(json.dumps(run_step(step, home)))
        return
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for count, name, figures in measure(impressions):
        found.setdefault(name, {})[count] = figures
        print(f"{count:,} {name}: {figures}", file=sys.stderr, flush=True)
    table = Table(
        "step",
        *(f"peak MiB, {count:,}" for count in impressions),
        *(f"CPU s, {count:,}" for count in impressions),
    )
    for name, by_count in found.items():
        each = [by_count[count] for count in impressions]
        table.add_row(
            name, *(f"{one['peak_mib']:.0f}" for one in each), *(f"{one['cpu_s']:.1f}" for one in each)
        )
    Console().print(table)
    write_figures(json_file, found)


if __name__ == "__main__":
    typer.run(main)
