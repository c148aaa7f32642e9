"""Drift: compares recent searches with the data that the champion was trained on."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from immr.cli.help import Commands
from immr.cli.options import (
    NEGATIVE,
    AsCsv,
    AsJson,
    ModelName,
    ParquetFile,
    SetFolder,
    parts_of,
    print_json,
    print_table,
    saved,
)
from immr.data.training_set import TrainingSet
from immr.drift.findings import DriftReport
from immr.loop import drift as drift_verb
from immr.storage.table_files import of_records

app = Commands()
_COLUMNS = ("model_version", "what", "found", "sentence", "look_at")
_WORDS = {True: "[red]drifted[/]", False: "[green]no drift[/]", None: "[yellow]unknown[/]"}


@app.command()
def drift(
    ctx: typer.Context,
    training_set: SetFolder,
    model: ModelName = "champion",
    days: Annotated[float, typer.Option(metavar="DAYS", help="How many days to look back.")] = 7.0,
    as_csv: AsCsv = False,
    parquet: ParquetFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare photos, scores, categories and features with the training set; exit 3 if any of them drifted.

    Example: immr drift training-set --days 7
    """
    parts = parts_of(ctx)
    report = drift_verb.drift(parts, parts.registry.get(model), TrainingSet(training_set), days)
    rows = [asdict(finding) | {"model_version": report.model_version} for finding in report.findings]
    if not saved(lambda: of_records(rows, _COLUMNS), as_csv, parquet, as_json):
        _show(report, days, as_json)
    if any(finding.found for finding in report.findings):
        raise typer.Exit(NEGATIVE)


def _show(report: DriftReport, days: float, as_json: bool) -> None:
    if as_json:
        print_json(report.to_json())
        return
    table = Table(
        "what",
        "",
        "finding",
        "look at",
        title=f"{report.model_version}, the last {'day' if days == 1 else f'{days:g} days'}",
    )
    for finding in report.findings:
        table.add_row(finding.what, _WORDS[finding.found], escape(finding.sentence), finding.look_at)
    print_table(table)
