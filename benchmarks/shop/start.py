"""A catalogue without clicks: how long `immr start` takes, then searches and changed items in `immr serve`.

    python -m benchmarks.shop.start --items 10000 --json start.json

The catalogue is rendered (`benchmarks.shop.pictures`). `search_p50_ms` is the whole way through the gateway, one
search after the other; `search_stage_ms` are means. An upsert counts from the start of the command until a search
finds the item.

    python -m benchmarks.shop.start --items 1000 --documents 200000

fills the index up with copies of the items (`benchmarks.shop.index_filler`) before searches are measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer

from benchmarks.figures import JsonFile, write_figures
from benchmarks.shop import tables
from benchmarks.shop.index_filler import pad
from benchmarks.shop.pictures import Thing
from benchmarks.shop.process_usage import Used, run
from benchmarks.shop.serving import Service
from benchmarks.shop.tables import Size

PHOTOS = 300
SEED = 0


def main(
    items: Annotated[int, typer.Option(help="Items of the catalogue.")] = 10_000,
    searches: Annotated[int, typer.Option(help="Searches that are measured.")] = 300,
    documents: Annotated[int, typer.Option(help="Fill the index up to so many documents.")] = 0,
    folder: Annotated[
        Path | None, typer.Option(help="Keep the shop and its home here; a later run starts from them.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Measure, and print the figures."""
    with TemporaryDirectory(prefix="immr-start-") as temporary:
        place = folder or Path(temporary)
        shop, environment = place / "shop", {"IMMR_HOME": str(place / "home")}
        if not (shop / "impressions.parquet").is_file():
            tables.write(Size(items, PHOTOS, PHOTOS), shop, SEED)
        started = _start(shop, environment, place)
        if documents > items:
            pad(place / "home", documents)
        service = Service(shop, environment, place)
        with service.running():
            searched = service.search(searches, SEED)
            first, first_s = service.upsert("first", Thing.of(SEED, items))
            second, second_s = service.upsert("second", Thing.of(SEED, items + 1))
    result = {
        "items": items,
        "documents": max(items, documents),
        "start": asdict(started),
        "serve_own_gib": service.used.own_gib,
        "search_p50_ms": float(np.median(searched.ms)),
        "search_p95_ms": float(np.quantile(searched.ms, 0.95)),
        "search_cpu_ms": searched.cpu_ms,
        "search_stage_ms": searched.mean_ms_by_stage,
        "right_at_1": searched.right_at_1,
        "first_upsert_s": first_s,
        "upsert_s": second_s,
        "upsert_command_s": second.seconds,
        "upsert_command_cpu_s": [first.cpu_seconds, second.cpu_seconds],
    }
    print(json.dumps(result, indent=1))
    write_figures(json_file, result)


def _start(shop: Path, environment: Mapping[str, str], logs: Path) -> Used:
    command = ["-m", "immr.cli", "start", str(shop / "items.parquet"), "--no-serve"]
    return run(command, environment, logs / "start.log")


if __name__ == "__main__":
    typer.run(main)
