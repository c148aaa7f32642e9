"""How much memory do the parts take that work on the whole catalogue, and does it grow with the items?

python -m benchmarks.catalogue_memory --items 50000 --items 200000

Each part runs in its own process, on items with 600 bytes of text, embeddings of 256 dimensions and 500 photos:

changes                 `immr start`, run again, compares the catalogue with the earlier one; 1 % of the items differ
changes by rows         the same with a Python object for each row of both
metrics                 `immr evaluate` ranks all items for each photo
metrics at once         the same from one matrix of cosines
documents               `immr index build` checks, orders and hashes the items, before the database gets them
documents in payloads   the same with all payloads and a copy of the embeddings in memory

Memory is the largest increase of the process's own pages (`RssAnon`, sampled) over those at the part's start. Mapped
files are not in it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.figures import JsonFile, write_figures
from immr.data.catalogue_changes import changes_between
from immr.data.contract import ITEMS
from immr.evaluation import metrics
from immr.evaluation.exact_search import exact_search
from immr.index.documents import Documents, payload
from immr.storage import fingerprint
from immr.storage.scratch import scratch
from immr.types import FloatArray, Item, ModelVersion

DIM, PHOTOS, CHANGED, TEXT = 256, 500, 100, "words " * 100
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_SAMPLE_S = 0.002


def write(file: Path, count: int, changed: bool) -> None:
    """An `items.parquet` as training sets have it."""
    numbers = range(count)
    price = [float(number % 90) + (0.5 if changed and number % CHANGED == 0 else 0.0) for number in numbers]
    columns = {
        "item_id": [f"item-{number:08d}" for number in numbers],
        "title": [f"title {number}" for number in numbers],
        "description": [f"{number} {TEXT}" for number in numbers],
        "category": [f"category/{number % 50}" for number in numbers],
        "image": [f"file:///pictures/{number}.jpg" for number in numbers],
        "price": price,
        "updated_at": [_NOW] * count,
        "stock": [None] * count,
        "images": [None] * count,
    }
    table = pa.table(
        {name: pa.array(values, ITEMS.columns.field(name).type) for name, values in columns.items()}
    )
    table = table.append_column("image_sha256", pa.array([f"{number:064x}" for number in numbers]))
    pq.write_table(table.append_column("class_id", pa.array(numbers, pa.int64())), file)


def part(name: str, folder: Path, count: int) -> Callable[[], object]:
    """One of `PARTS`, ready to run, which returns what must be equal to its comparison."""
    if name.startswith("changes"):
        before, after = folder / "before.parquet", folder / "after.parquet"
        if name == "changes":
            return lambda: [item.item_id for item in changes_between(before, after, frozenset()).items]
        return lambda: _changed_rows(before, after)
    rows_ND = _unit_rows(count)
    if name.startswith("metrics"):
        photos_QD, classes_N = np.array(rows_ND[:PHOTOS]) + 0.05, np.arange(count)
        if name == "metrics":
            own_Q = np.full(PHOTOS, -1)
            return lambda: (
                exact_search(photos_QD, classes_N[:PHOTOS], own_Q, rows_ND, classes_N).top[:, 0].tolist()
            )
        return lambda: metrics.cosine_scores(photos_QD, rows_ND).argmax(axis=1).tolist()
    items = [
        Item(f"item-{number:08d}", f"title {number}", f"{number} {TEXT}", "category", "", 1.0, _NOW)
        for number in range(count)
    ]
    version = ModelVersion("immr", 1, "key", "run", DIM, "preprocessing", "manifest", "concept")
    if name == "documents":
        return lambda: len(Documents.of(version, items, rows_ND).ids)
    return lambda: _payloads(items, rows_ND)


def _changed_rows(before: Path, after: Path) -> list[str]:
    old, new = (
        {row.pop("item_id"): row for row in pq.read_table(file).drop(["class_id"]).to_pylist()}
        for file in (before, after)
    )
    return sorted(item_id for item_id, row in new.items() if row != old.get(item_id))


def _payloads(items: list[Item], rows_ND: FloatArray) -> int:
    payloads = [payload(item) for item in items]
    copy_ND = np.ascontiguousarray(rows_ND[list(range(len(items)))])
    fingerprint.of_values(payloads, fingerprint.of_bytes(copy_ND.tobytes()))
    return len(payloads)


def _unit_rows(count: int) -> FloatArray:
    rows_ND, rng = scratch((count, DIM)), np.random.default_rng(0)
    for start in range(0, count, 10_000):
        block = rng.normal(size=(min(10_000, count - start), DIM)).astype(np.float32)
        rows_ND[start : start + len(block)] = metrics.unit_rows(block)
    return rows_ND


PARTS = (
    "changes", "changes by rows", "metrics", "metrics at once", "documents", "documents in payloads",
)  # fmt: skip


def run(name: str, folder: Path, count: int) -> dict[str, object]:
    """Memory in MiB, CPU seconds and the result's hash, of one part in this process."""
    work = part(name, folder, count)
    began_mib, peak_mib, done = _own_mib(), [0.0], threading.Event()

    def sample() -> None:
        while not done.wait(_SAMPLE_S):
            peak_mib[0] = max(peak_mib[0], _own_mib())

    watching = threading.Thread(target=sample)
    watching.start()
    began_s = time.process_time()
    found = work()
    cpu_s = time.process_time() - began_s
    done.set()
    watching.join()
    return {"mib": peak_mib[0] - began_mib, "cpu_s": cpu_s, "found": fingerprint.of_values(found)}


def _own_mib() -> float:
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found, "needs Linux"
    return int(found[1]) / 1024


def main(
    items: Annotated[list[int], typer.Option(help="Sizes of the catalogue.")] = [50_000, 200_000],  # noqa: B006
    only: Annotated[str, typer.Option(help="Run only this part, in this process.")] = "",
    folder: Annotated[Path, typer.Option(help="Of the catalogue's files.")] = Path(),
    json_file: JsonFile = None,
) -> None:
    """Measure and print a table."""
    if only:
        print(json.dumps(run(only, folder, items[0])))
        return
    figures: dict[str, dict[int, dict[str, object]]] = {name: {} for name in PARTS}
    table = Table("part", *(f"MiB, {count:,}" for count in items), *(f"CPU s, {count:,}" for count in items))
    for count in items:
        with tempfile.TemporaryDirectory(prefix="immr-catalogue-") as place:
            write(Path(place) / "before.parquet", count, changed=False)
            write(Path(place) / "after.parquet", count, changed=True)
            for name in PARTS:
                command = [sys.executable, "-m", "benchmarks.catalogue_memory", "--only", name]
                command += ["--folder", place, "--items", str(count)]
                environment = os.environ | {"OMP_NUM_THREADS": "1"}
                done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=environment)
                figures[name][count] = json.loads(done.stdout.splitlines()[-1])
    for own, other in zip(PARTS[::2], PARTS[1::2], strict=True):
        assert all(figures[own][count]["found"] == figures[other][count]["found"] for count in items), own
    for name, by_count in figures.items():
        each = [by_count[count] for count in items]
        table.add_row(name, *(f"{one['mib']:.0f}" for one in each), *(f"{one['cpu_s']:.1f}" for one in each))
    Console().print(table)
    write_figures(json_file, figures)


if __name__ == "__main__":
    typer.run(main)
