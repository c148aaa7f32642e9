"""The event log: export it as the next click log."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from immr.cli.options import AsJson, console, parts_of
from immr.loop.watch import export_events

events_app = typer.Typer(no_args_is_help=True, help="The event log: export.")


@events_app.callback()
def events() -> None:
    """Make typer treat `export` as a subcommand although it is the only one."""


@events_app.command("export")
def events_export(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for queries.parquet and impressions.parquet.")],
    items: Annotated[
        Path | None, typer.Option(help="The shop's items.parquet, to copy into the folder.")
    ] = None,
    since: Annotated[datetime | None, typer.Option(help="Only events since this time (UTC).")] = None,
    as_json: AsJson = False,
) -> None:
    """Export what shoppers saw and clicked as a click log for the next training.

    Example: immr events export --out next-log --items my-shop/items.parquet
    """
    exported = export_events(parts_of(ctx), out, since)
    if items is not None:
        shutil.copyfile(items, out / "items.parquet")
    if as_json:
        typer.echo(json.dumps(asdict(exported), default=str))
        return
    console.print(
        f"exported {exported.queries:,} of {exported.queries_in:,} queries with {exported.impressions:,} "
        f"impressions to {out}; left out {exported.without_photo:,} queries without a photo and "
        f"{exported.of_bots:,} queries by bots",
        highlight=False,
    )
