"""Catalogue changes between two trainings: upsert, delete, deliver, status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
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
    ParquetFile,
    note,
    parts_of,
    print_json,
    print_table,
    saved,
)
from immr.loop.items.request import ItemsProgress, ItemsRequest, ItemsResult
from immr.loop.items.service import ask, perform
from immr.machine.wording import counted
from immr.storage.table_files import of_records

_COLUMNS = (*(field.name for field in fields(ItemsProgress)), "waiting")

_FILE = (
    "Items as a Parquet, CSV or JSON-lines file, folder, glob or URL: item_id, title, description, category, "
    "image (a path or URL), price, updated_at, and optionally stock."
)

items_app = Commands(
    no_args_is_help=True,
    help="Change the catalogue. Changes are recorded first, then delivered to every version's collection.\n\n"
    "Example: immr items upsert new-items.parquet",
)


@items_app.command("upsert")
def items_upsert(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(help=_FILE)],
    mapping: MapFile = None,
    as_csv: AsCsv = False,
    parquet: ParquetFile = None,
    as_json: AsJson = False,
) -> None:
    """Add items, or replace those with the same item_id; exit 3 while a live version lacks them.

    Example: immr items upsert new-items.parquet
    """
    answer = _done(ctx, ItemsRequest("upsert", source=file, map_file=str(mapping or "")))
    recorded = answer.rows_in - sum(answer.rejected.values())
    note(f"recorded {recorded:,} of {counted(answer.rows_in, 'item')}")
    for reason, rows in answer.rejected.items():
        note(f"rejected {counted(rows, 'item')}: {reason}{_named(answer.examples.get(reason, ()), rows)}")
    _show(answer.progress, as_csv, parquet, as_json)


@items_app.command("delete")
def items_delete(
    ctx: typer.Context,
    item_ids: Annotated[
        list[str], typer.Argument(metavar="ITEM_ID", help="The item_id of each item to delete.")
    ],
    as_csv: AsCsv = False,
    parquet: ParquetFile = None,
    as_json: AsJson = False,
) -> None:
    """Delete items from the catalogue; exit 3 while a live version still has them.

    Example: immr items delete item-17 item-18
    """
    answer = _done(ctx, ItemsRequest("delete", item_ids=tuple(item_ids)))
    for item_id in answer.unknown:
        note(f"{item_id} is not in the catalogue: nothing was deleted")
    _show(answer.progress, as_csv, parquet, as_json)


@items_app.command("deliver")
def items_deliver(
    ctx: typer.Context, as_csv: AsCsv = False, parquet: ParquetFile = None, as_json: AsJson = False
) -> None:
    """Deliver the changes that wait for a collection, such as one that was unavailable.

    Example: immr items deliver
    """
    _show(_done(ctx, ItemsRequest("deliver")).progress, as_csv, parquet, as_json)


@items_app.command("status")
def items_status(
    ctx: typer.Context, as_csv: AsCsv = False, parquet: ParquetFile = None, as_json: AsJson = False
) -> None:
    """Show which changes each version's collection has; exit 3 while changes wait for a live version.

    Example: immr items status --json
    """
    _show(_done(ctx, ItemsRequest("status")).progress, as_csv, parquet, as_json)


def _done(ctx: typer.Context, request: ItemsRequest) -> ItemsResult:
    parts = parts_of(ctx)
    return ask(parts.settings, request) or perform(parts, request)


def _named(examples: Sequence[str], rows: int) -> str:
    more = ["…"] if rows > len(examples) else []
    return f" ({', '.join([*examples, *more])})" if examples else ""


def _show(progress: Sequence[ItemsProgress], as_csv: bool, parquet: Path | None, as_json: bool) -> None:
    rows = [asdict(each) | {"waiting": each.waiting} for each in progress]
    if saved(lambda: of_records(rows, _COLUMNS), as_csv, parquet, as_json):
        pass
    elif as_json:
        print_json(rows)
    elif not rows:
        note("no version has a collection yet: run `immr index build` or `immr start` first")
    else:
        # numbers of changes, not of changed items: the delete of an item that no version has is a change too
        table = Table("version", "live", "has changes up to", "in searches", "waiting", "error")
        for each in progress:
            searched = "as delivered" if each.searched is None else f"no. {min(each.searched, each.latest):,}"
            delivered = f"no. {each.delivered:,} of {each.latest:,}"
            live = "yes" if each.live else ""
            table.add_row(each.version_id, live, delivered, searched, f"{each.waiting:,}", escape(each.error))
        print_table(table)
    raise typer.Exit(NEGATIVE if any(each.live and each.waiting for each in progress) else 0)
