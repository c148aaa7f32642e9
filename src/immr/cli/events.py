"""The event log: exported as the next click log or as Parquet, and compared with the training data (drift)."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from immr.cli.help import Commands
from immr.cli.options import (
    NEGATIVE,
    AsCsv,
    AsJson,
    MapFile,
    ModelName,
    ParquetFile,
    SetFolder,
    parts_of,
    print_json,
    print_table,
    report,
    saved,
)
from immr.cli.values import a_time
from immr.data.sources.shop import Shop
from immr.data.training_set import TrainingSet
from immr.drift.findings import DriftReport
from immr.loop import drift as drift_verb
from immr.loop.watch import export_events, sink_events
from immr.machine.progress_bar import elapsed
from immr.machine.wording import counted
from immr.storage.table_files import of_records

app = Commands()
events_app = Commands(
    no_args_is_help=True,
    help="Export the event log as a click log, or write it as Parquet by day.\n\n"
    "Example: immr events export --out next-log",
)


_COLUMNS = ("model_version", "what", "found", "sentence", "look_at")
_WORDS = {True: "[red]drifted[/]", False: "[green]no drift[/]", None: "[yellow]unknown[/]"}


@events_app.command("export")
def events_export(
    ctx: typer.Context,
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder for queries.parquet and impressions.parquet.")
    ],
    items: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The catalogue, to write into the folder as well: a file, folder, glob or URL.",
        ),
    ] = None,
    mapping: MapFile = None,
    since: Annotated[
        datetime | None,
        typer.Option(parser=a_time, metavar="TIME", help="Only events since this time (UTC)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Export what shoppers saw and clicked as a click log for the next training.

    Example: immr events export --out next-log --items my-shop/items.parquet
    """
    catalogue = Shop.catalogue(items, mapping) if items is not None else None
    with elapsed("exporting"):
        exported = export_events(parts_of(ctx), out, since, catalogue)
    report(
        f"exported {exported.queries:,} of {counted(exported.queries_in, 'query')} with "
        f"{counted(exported.impressions, 'impression')} to {out}; left out: "
        f"{exported.without_photo:,} without a photo, {exported.of_bots:,} by bots",
        asdict(exported),
        as_json,
    )


@events_app.command("sink")
def events_sink(
    ctx: typer.Context,
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder of the tables searches, impressions and clicks.")
    ],
    since: Annotated[
        datetime | None,
        typer.Option(parser=a_time, metavar="DAY", help="First day to write (UTC); by default all days."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write searches, impressions and clicks as Parquet by day; files of the same days are replaced.

    Example: immr events sink --out events --since 2026-05-01
    """
    with elapsed("writing the event log"):
        sunk = sink_events(parts_of(ctx), out, since)
    report(
        f"wrote {counted(sunk.searches, 'search')}, {counted(sunk.impressions, 'impression')} and "
        f"{counted(sunk.clicks, 'click')} to {out}; days: {sunk.days:,}",
        asdict(sunk),
        as_json,
    )


@app.command()
def drift(
    ctx: typer.Context,
    training_set: SetFolder,
    model: ModelName = "champion",
    days: Annotated[float, typer.Option(metavar="DAYS", help="How many days to look back.")] = 7,
    as_csv: AsCsv = False,
    parquet: ParquetFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare photos, scores, categories and features with the training set; exit 3 if any of them drifted.

    Example: immr drift training-set --days 7
    """
    parts = parts_of(ctx)
    found = drift_verb.drift(parts, parts.registry.get(model), TrainingSet(training_set), days)
    rows = [asdict(finding) | {"model_version": found.model_version} for finding in found.findings]
    if not saved(lambda: of_records(rows, _COLUMNS), as_csv, parquet, as_json):
        _show(found, days, as_json)
    if any(finding.found for finding in found.findings):
        raise typer.Exit(NEGATIVE)


def _show(found: DriftReport, days: float, as_json: bool) -> None:
    if as_json:
        print_json(found.to_json())
        return
    table = Table(
        "what",
        "",
        "finding",
        "look at",
        title=f"{found.model_version}, the last {'day' if days == 1 else f'{days:g} days'}",
    )
    for finding in found.findings:
        table.add_row(finding.what, _WORDS[finding.found], escape(finding.sentence), finding.look_at)
    print_table(table)
