"""The event log: export it as the next click log, or as Parquet for a warehouse."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from immr.cli.help import Commands
from immr.cli.options import AsJson, MapFile, parts_of, report
from immr.cli.values import a_time
from immr.data.sources.shop import Shop
from immr.loop.watch import export_events, sink_events
from immr.machine.wording import counted

events_app = Commands(
    no_args_is_help=True,
    help="Export the event log as a click log, or write it as Parquet by day.\n\n"
    "Example: immr events export --out next-log",
)


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
    sunk = sink_events(parts_of(ctx), out, since)
    report(
        f"wrote {counted(sunk.searches, 'search')}, {counted(sunk.impressions, 'impression')} and "
        f"{counted(sunk.clicks, 'click')} to {out}; days: {sunk.days:,}",
        asdict(sunk),
        as_json,
    )
