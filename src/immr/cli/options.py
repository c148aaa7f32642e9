"""Arguments and options that several commands share, and where their output goes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from immr import recipes, wiring
from immr.settings import Settings
from immr.types import ModelVersion

console = Console()

RecipeName = Annotated[str, typer.Option("--recipe", help=f"One of: {', '.join(sorted(recipes.RECIPES))}.")]
DataFolder = Annotated[Path, typer.Argument(help="Folder with items, queries and impressions as Parquet.")]
SetFolder = Annotated[Path, typer.Argument(help="Training set, as `immr govern` writes it.")]
ModelName = Annotated[str, typer.Option("--model", help="Version id (immr-3), champion or challenger.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def settings_and_version(model: str) -> tuple[Settings, ModelVersion]:
    """Settings of this process, and the version that a user names."""
    settings = Settings()
    return settings, wiring.registry(settings).get(model)
