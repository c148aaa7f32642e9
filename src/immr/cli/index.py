"""Collections of model versions: build one, and delete old ones."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table
from typer.core import TyperGroup

from immr import steps
from immr.cli.options import ModelName, SetFolder, console, settings_and_version
from immr.data.training_set import TrainingSet
from immr.loop import catalogue
from immr.settings import Settings


class BuildsByDefault(TyperGroup):
    """`immr index TRAINING_SET --model M` is `immr index build TRAINING_SET --model M`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command in front where none is named."""
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["build", *args]
        return super().parse_args(ctx, args)


index_app = typer.Typer(
    cls=BuildsByDefault, no_args_is_help=True, help="A version's collection: build and verify it; gc."
)


@index_app.command("build")
def index_build(training_set: SetFolder, model: ModelName) -> None:
    """Embed the catalogue into a version's own collection, and verify it; `build` may be left out."""
    settings, version = settings_and_version(model)
    report = steps.index(settings, version, TrainingSet(training_set).items)
    console.print(
        f"{report.collection}: {report.points} documents, recall@10 {report.recall_at_10:.3f} of exact search"
        + (" (was there already)" if report.reused else "")
    )


@index_app.command("gc")
def index_gc(
    keep: Annotated[int, typer.Option(min=0, help="How many versions stay for rollback, beside the live.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Delete collections of old versions; never one that serves, plays a role or is in the experiment."""
    table = Table("version", "collection")
    for version_id, fate in catalogue.collect_garbage(Settings(), keep, dry_run).items():
        table.add_row(version_id, fate)
    console.print(table)
