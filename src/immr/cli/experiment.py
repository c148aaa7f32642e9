"""A/B tests: read out, decide."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer
from rich.table import Table

from immr import steps
from immr.cli.options import AsJson, console
from immr.settings import Settings

app = typer.Typer()
experiment_app = typer.Typer(no_args_is_help=True, help="A/B tests: read out.")


@app.command()
def watch(as_json: AsJson = False) -> None:
    """Read the running experiment out, decide, and write the decision to the promotion log."""
    watched = steps.watch(Settings())
    if as_json:
        typer.echo(json.dumps({"readout": watched.readout.to_json(), "decision": asdict(watched.decision)}))
        return
    _print_readout(watched)


@experiment_app.command("readout")
def experiment_readout(as_json: AsJson = False) -> None:
    """Per variant: users, CTR with interval, and the difference; decides nothing."""
    watched = steps.read_out(Settings())
    if as_json:
        typer.echo(json.dumps({"readout": watched.readout.to_json(), "decision": asdict(watched.decision)}))
        return
    _print_readout(watched)


def _print_readout(watched: steps.Watched) -> None:
    from immr.experiment.readout import as_rows

    table = Table(title="A/B readout")
    header, *rows = as_rows(watched.readout)
    for column in header:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print(f"[bold]{watched.decision.action}[/]: {watched.decision.reason}", highlight=False)
