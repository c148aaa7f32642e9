"""Drift: what comes in against what the champion learned from."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from immr.cli.options import AsJson, ModelName, SetFolder, console, settings_and_version
from immr.data.training_set import TrainingSet
from immr.loop import drift as drifting

app = typer.Typer()
_WORDS = {True: "[red]drifted[/]", False: "[green]as it was[/]", None: "[yellow]not known[/]"}


@app.command()
def drift(
    training_set: SetFolder,
    model: ModelName = "champion",
    days: Annotated[float, typer.Option(help="How far to look back.")] = 7.0,
    as_json: AsJson = False,
) -> None:
    """Compare photos, scores, categories and features with the training set; exit 2 where one drifted."""
    settings, version = settings_and_version(model)
    report = drifting.drift(settings, version, TrainingSet(training_set), days)
    if as_json:
        typer.echo(json.dumps(report.to_json()))
    else:
        table = Table("what", "", "found", "look at", title=f"{report.model_version}, the last {days:g} days")
        for finding in report.findings:
            table.add_row(finding.what, _WORDS[finding.found], finding.sentence, finding.look_at)
        console.print(table)
    if any(finding.found for finding in report.findings):
        raise typer.Exit(2)
