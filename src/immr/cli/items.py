"""The catalogue between two trainings: upsert, delete, deliver, status."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from immr.cli.options import AsJson, console
from immr.loop import catalogue
from immr.loop.catalogue import Progress
from immr.settings import Settings

_FILE = (
    "Items as Parquet or CSV: item_id, title, description, category, image (a path or URI), price, "
    "updated_at, and stock where it is known."
)

items_app = typer.Typer(
    no_args_is_help=True,
    help="Changes of the catalogue: written down first, then brought to every version's collection.",
)


@items_app.command("upsert")
def items_upsert(
    file: Annotated[Path, typer.Argument(help=_FILE)],
    as_json: AsJson = False,
) -> None:
    """Add items, or replace those of the same item_id; exit 1 while a live version does not have them."""
    counts, progress = catalogue.upsert(Settings(), file)
    _say(f"{counts.valid:,} of {counts.rows_in:,} items are written down")
    for reason, rows in counts.rejected.items():
        _say(f"left out: {reason} ({rows:,} rows)")
    _show(progress, as_json)


@items_app.command("delete")
def items_delete(
    item_ids: Annotated[
        list[str], typer.Argument(metavar="ID...", help="The item_id of each item that is gone.")
    ],
    as_json: AsJson = False,
) -> None:
    """Take items out of the catalogue; exit 1 while a live version still has them."""
    _show(catalogue.change(Settings(), [], item_ids), as_json)


@items_app.command("deliver")
def items_deliver(as_json: AsJson = False) -> None:
    """Bring what waits to the collections that did not answer before."""
    _show(catalogue.deliver(Settings()), as_json)


@items_app.command("status")
def items_status(as_json: AsJson = False) -> None:
    """How far each version's collection is; exit 1 while changes wait for a live one."""
    _show(catalogue.status(Settings()), as_json)


def _show(progress: Sequence[Progress], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([asdict(each) | {"waiting": each.waiting} for each in progress]))
    else:
        table = Table("version", "live", "changes delivered", "in searches", "waiting", "why")
        for each in progress:
            searched = "as delivered" if each.searched is None else f"{min(each.searched, each.latest):,}"
            delivered = f"{each.delivered:,} of {each.latest:,}"
            table.add_row(
                each.version_id,
                "yes" if each.live else "",
                delivered,
                searched,
                f"{each.waiting:,}",
                each.error,
            )
        console.print(table)
    raise typer.Exit(1 if any(each.live and each.waiting for each in progress) else 0)


def _say(sentence: str) -> None:
    Console(stderr=True).print(sentence, highlight=False)
