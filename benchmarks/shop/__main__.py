"""The whole loop over a rendered shop of any size: seconds, memory and disk of every verb.

    python -m benchmarks.shop --items 4000 --queries 6000 --impressions 120000 --json shop.json

A shop of a quarter of the size is measured first; `growth_exponent` is the slope of log(CPU seconds) over log(size)
between the two, including the fixed costs of each process. `--share` sets other sizes. The default recipe has
small pictures and little training, so that the shop's size dominates; `--recipe concept` measures the real one.
`--no-with-model` leaves out the verbs that compute embeddings, for sizes at which the encoder would take hours; most
pictures are then copies of others, with a hash of their own. `--known-features` runs all verbs on such pictures, with
features that did not have to be computed (`benchmarks.shop.known_features`).

Each verb runs in a separate process, with memory sampled over its process tree: `peak_gib_by_verb` includes
mapped files, which the kernel can drop; `own_gib_by_verb` does not.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.figures import JsonFile, write_figures
from benchmarks.shop.loop import Figures, Loop, small_recipe, without_cleaning
from benchmarks.shop.nearest_class_cleaning import looks_minus_dense_precision
from benchmarks.shop.process_usage import disk_gib
from benchmarks.shop.tables import Size
from immr import recipes

CLEANED_CLASSES = 200
_console = Console()


def main(
    items: Annotated[int, typer.Option(help="Items of the largest shop.")] = 4_000,
    queries: Annotated[int, typer.Option(help="Shoppers' photos.")] = 6_000,
    impressions: Annotated[int, typer.Option(help="Items shown in all answers.")] = 120_000,
    share: Annotated[list[float], typer.Option(help="Sizes, as shares of the largest.")] = [0.25, 1.0],  # noqa: B006
    recipe: Annotated[str, typer.Option(help="A recipe by name or file; by default a small one.")] = "",
    with_model: Annotated[
        bool,
        typer.Option(
            help="Without, only the verbs that compute no embedding: check, govern, materialize, readout."
        ),
    ] = True,
    known_features: Annotated[
        bool,
        typer.Option(help="Fill the cache with made-up features, so that nothing has to be embedded."),
    ] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Keep shops and homes here; an interrupted run resumes.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Run every verb of the loop on each size."""
    chosen = recipes.by_name(recipe) if recipe else small_recipe()
    chosen = chosen if with_model else without_cleaning(chosen)
    whole, found = Size(items, queries, impressions), dict[int, dict[str, Any]]()
    with TemporaryDirectory(prefix="immr-shop-") as temporary:
        for size in (whole.scaled(part) for part in sorted(share)):
            place = (folder or Path(temporary)) / f"{size.items}-items"
            place.mkdir(parents=True, exist_ok=True)
            recipe_file = place / "shop.toml"
            recipe_file.write_text(recipes.to_toml(chosen))
            loop = Loop(place, recipe_file, _console.print, with_model, known_features)
            figures = loop.run(size)
            found[size.items] = _as_json(size, figures) | {
                "disk_gib": {"shop": disk_gib(loop.shop), "home": disk_gib(loop.home)},
                "label_precision": loop.label_precision(),
            }
            _show(size, figures)
    precision, kept = looks_minus_dense_precision(CLEANED_CLASSES)
    largest = found[max(found)]
    result = {
        **largest,
        "looks_minus_dense_precision": precision,
        "looks_minus_dense_kept": kept,
        "growth_exponent": _exponent(found, "total"),
        "growth_exponent_by_verb": {verb: _exponent(found, verb) for verb in largest["cpu_seconds_by_verb"]},
        "by_items": found,
    }
    print(json.dumps({key: value for key, value in result.items() if key != "by_items"}, indent=1))
    write_figures(json_file, result)


def _as_json(size: Size, figures: Figures) -> dict[str, Any]:
    def by_verb(what: str) -> dict[str, float]:
        return {verb: round(getattr(used, what), 3) for verb, used in figures.used.items()}

    result = {
        "size": asdict(size),
        "seconds_by_verb": by_verb("seconds"),
        "cpu_seconds_by_verb": by_verb("cpu_seconds"),
        "peak_gib_by_verb": by_verb("peak_gib"),
        "own_gib_by_verb": by_verb("own_gib"),
    }
    if not figures.search_ms:
        return result
    return result | {
        "upsert_s": figures.upsert_s,
        "first_upsert_s": figures.first_upsert_s,
        "search_p50_ms": float(np.median(figures.search_ms)),
        "search_p95_ms": float(np.quantile(figures.search_ms, 0.95)),
        "search_cpu_ms": figures.search_cpu_ms,
        "search_stage_ms": figures.search_stage_ms,
        "right_at_1": figures.right_at_1,
    }


def _exponent(found: dict[int, dict[str, Any]], verb: str) -> float | None:
    """Slope of log(CPU seconds) over log(items); None for a single size."""
    if len(found) < 2:
        return None
    costs = [one["cpu_seconds_by_verb"] for one in found.values()]
    seconds = [sum(cost.values()) if verb == "total" else cost[verb] for cost in costs]
    slope = np.polyfit([math.log(size) for size in found], np.log(np.maximum(seconds, 0.01)), 1)[0]
    return round(float(slope), 3)


def _show(size: Size, figures: Figures) -> None:
    table = Table(title=f"{size.items:,} items, {size.queries:,} photos, {size.impressions:,} impressions")
    for column in ("verb", "seconds", "CPU s", "peak GiB", "own GiB"):
        table.add_column(column, justify="left" if column == "verb" else "right")
    for verb, used in figures.used.items():
        numbers = (
            f"{used.seconds:.1f}",
            f"{used.cpu_seconds:.1f}",
            f"{used.peak_gib:.2f}",
            f"{used.own_gib:.2f}",
        )
        table.add_row(verb, *numbers)
    _console.print(table)


if __name__ == "__main__":
    typer.run(main)
