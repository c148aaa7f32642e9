"""Drift: compares recent searches with the data that the champion was trained on."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from immr.cli.options import AsJson, ModelName, SetFolder, console, parts_of
from immr.data.training_set import TrainingSet
from immr.loop import drift as drift_verb

app = typer.Typer()
_WORDS = {True: "[red]drifted[/]", False: "[green]no drift[/]", None: "[yellow]unknown[/]"}


@app.command()
def drift(
    ctx: typer.Context,
    training_set: SetFolder,
    model: ModelName = "champion",
    days: Annotated[float, typer.Option(help="How many days to look back.")] = 7.0,
    as_json: AsJson = False,
) -> None:
    """Compare photos, scores, categories and features with the training set; exit 2 if any of them drifted.

    Example: immr drift training-set --days 7
    """
    parts = parts_of(ctx)
    report = drift_verb.drift(parts, parts.registry.get(model), TrainingSet(training_set), days)
    if as_json:
        typer.echo(json.dumps(report.to_json()))
    else:
        table = Table(
            "what", "", "finding", "look at", title=f"{report.model_version}, the last {days:g} days"
        )
        for finding in report.findings:
            table.add_row(finding.what, _WORDS[finding.found], finding.sentence, finding.look_at)
        console.print(table)
    if any(finding.found for finding in report.findings):
        raise typer.Exit(2)
