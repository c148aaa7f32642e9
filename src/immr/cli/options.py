"""Arguments and options that several commands share, the parts they use, and the console they print to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console

from immr import recipes
from immr.wiring import Parts

console = Console(width=None if sys.stdout.isatty() else 160)  # a pipe has no width, and tables need one

RecipeName = Annotated[
    str, typer.Option("--recipe", help=f"One of {', '.join(sorted(recipes.RECIPES))}; or a TOML file.")
]
SOURCE = (
    "Folder with items, queries and impressions as Parquet, CSV or JSON lines: a path, s3://, gs:// or https://; "
    "the URL of a warehouse; or a mapping (.toml) that names its source."
)
DataSource = Annotated[str, typer.Argument(help=SOURCE)]
MapFile = Annotated[
    Path | None,
    typer.Option("--map", help="Mapping from your columns to the data contract's (see `immr data check`)."),
]
SetFolder = Annotated[Path, typer.Argument(help="Training set, as written by `immr govern`.")]
ModelName = Annotated[str, typer.Option("--model", help="Version id (immr-3), champion or challenger.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def parts_of(ctx: typer.Context) -> Parts:
    """The parts that the root command connected."""
    return cast(Parts, ctx.obj)
