"""The event log: export it as the next click log."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from immr.cli.options import AsJson, console
from immr.loop import watch as watching
from immr.settings import Settings

events_app = typer.Typer(no_args_is_help=True, help="The event log: export.")


@events_app.callback()
def events() -> None:
    """Keeps `export` a command of its own, as long as there is only one."""


@events_app.command("export")
def events_export(
    out: Annotated[Path, typer.Option(help="Folder for queries.parquet and impressions.parquet.")],
    items: Annotated[
        Path | None, typer.Option(help="items.parquet of the shop, to be copied beside.")
    ] = None,
    since: Annotated[datetime | None, typer.Option(help="From this time on (UTC).")] = None,
    as_json: AsJson = False,
) -> None:
    """Turn what shoppers saw and clicked into a click log to govern and train from."""
    exported = watching.export_events(Settings(), out, since)
    if items is not None:
        shutil.copyfile(items, out / "items.parquet")
    if as_json:
        typer.echo(json.dumps(asdict(exported), default=str))
        return
    console.print(
        f"{exported.queries:,} of {exported.queries_in:,} queries with {exported.impressions:,} impressions "
        f"went to {out}; left out: {exported.without_photo:,} without a photo, {exported.of_bots:,} of bots",
        highlight=False,
    )
