"""Data: check your own tables, or write a named data set as a shop."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from immr.cli.options import AsJson, console, parts_of
from immr.datasets.named import DATASETS, load_dataset

data_app = typer.Typer(
    no_args_is_help=True, help="Check your own tables, or write a named data set as a shop."
)


@data_app.command("check")
def data_check(
    source: Annotated[Path, typer.Argument(help="Folder with items, queries, impressions, judgements.")],
    rows: Annotated[int, typer.Option(min=1, help="Rows to sample from each table.")] = 100_000,
    as_json: AsJson = False,
) -> None:
    """Check a sample of your tables against the data contract; exit 1 if something does not fit."""
    from immr.data.check import check

    reports = check(source, rows)
    if as_json:
        typer.echo(json.dumps([asdict(report) | {"fits": report.fits} for report in reports]))
    else:
        table = Table("table", "files", "rows sampled", "valid", "problem", "rows", "example")
        for report in reports:
            counts = (report.name, str(report.files), f"{report.sampled:,}", f"{report.valid:,}")
            if report.error:
                table.add_row(*counts, f"[red]{report.error}[/]", "", "")
            elif not report.problems:
                table.add_row(*counts, "[green]none[/]", "", "")
            for number, problem in enumerate(report.problems):
                shown = counts if number == 0 else ("",) * 4
                table.add_row(*shown, problem.reason, f"{problem.rows:,}", problem.example)
        console.print(table)
        for report in reports:
            for column, similar in report.proposals.items():
                console.print(f"{report.name}: is the column {similar!r} the missing {column!r}? Rename it.")
            if report.ignored_columns:
                console.print(f"{report.name}: ignored columns {', '.join(report.ignored_columns)}")
    raise typer.Exit(0 if all(report.fits for report in reports) else 1)


def _add_dataset(name: str) -> None:
    @data_app.command(name, help=f"Write the data set {name} as a catalogue and a simulated click log.")
    def write(
        ctx: typer.Context,
        out: Annotated[Path, typer.Option(help="Folder for the tables.")] = Path("shop"),
        seed: Annotated[int, typer.Option(help="Seed of the simulated shoppers.")] = 0,
    ) -> None:
        from immr.datasets.simulation import simulate
        from immr.datasets.simulation_recipe import SimulationRecipe

        settings = parts_of(ctx).settings
        labelled = load_dataset(name, settings.data_mirror, settings.cache_dir)
        simulate(labelled, out, SimulationRecipe(seed=seed))
        console.print(f"wrote {len(labelled.items)} items and simulated clicks of {name} to {out}")


for _name in DATASETS:
    _add_dataset(_name)
