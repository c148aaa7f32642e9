"""Collections of model versions: build one, and delete old ones."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from immr.cli.help import Commands
from immr.cli.options import (
    AsCsv,
    AsJson,
    ModelName,
    ParquetFile,
    SetFolder,
    console,
    parts_of,
    print_json,
    print_table,
    report,
    saved,
)
from immr.data.training_set import TrainingSet
from immr.loop.index import collect_garbage, index
from immr.machine.wording import counted
from immr.storage.table_files import of_records

index_app = Commands(
    no_args_is_help=True,
    help="Build and verify a version's collection, or delete old ones.\n\n"
    "Example: immr index build training-set --model immr-1",
)


@index_app.command("build")
def index_build(
    ctx: typer.Context, training_set: SetFolder, model: ModelName, as_json: AsJson = False
) -> None:
    """Embed the catalogue into a version's collection, and verify it.

    Example: immr index build training-set --model immr-1
    """
    parts, governed = parts_of(ctx), TrainingSet(training_set)
    built = index(parts, parts.registry.get(model), governed.items)
    use = [each for each in governed.use() if each.table == "items"]
    sentence = (
        f"{built.collection}: {counted(built.points, 'document')}, recall@10 {built.recall_at_10:.3f} of exact search"
        + (" (already built)" if built.reused else "")
    )
    report(
        "\n".join([sentence, *(each.sentence for each in use)]),
        asdict(built) | {"use": [asdict(each) for each in use]},
        as_json,
    )


@index_app.command("gc")
def index_gc(
    ctx: typer.Context,
    keep: Annotated[
        int,
        typer.Option(
            min=0, metavar="COUNT", help="How many old versions to keep for rollback, besides the live ones."
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report without deleting.")] = False,
    as_csv: AsCsv = False,
    parquet: ParquetFile = None,
    as_json: AsJson = False,
) -> None:
    """Delete collections of old versions, except those that serve, wait, have a role or are in the running test.

    Example: immr index gc --keep 2 --dry-run
    """
    outcomes = collect_garbage(parts_of(ctx), keep, dry_run)
    rows = [{"version": version_id, "collection": outcome} for version_id, outcome in outcomes.items()]
    if saved(lambda: of_records(rows, ("version", "collection")), as_csv, parquet, as_json):
        return
    if as_json:
        print_json(outcomes)
        return
    if not outcomes:
        console.print("no version has a collection")
        return
    table = Table("version", "collection")
    for version_id, outcome in outcomes.items():
        table.add_row(version_id, outcome)
    print_table(table)
