"""`immr <step>`: the loop from the command line. Settings come from IMMR_*; see `immr doctor`."""

from __future__ import annotations

import logging
import sys
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from immr.cli import drift, events, experiment, index, items, keys, loop
from immr.cli.options import console
from immr.cluster import api as cluster
from immr.doctor.cluster import examine_cluster
from immr.doctor.local import examine
from immr.errors import ImmrError
from immr.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From a shop's click log and catalogue to a visual search that is A/B-tested and watched.",
)
app.add_typer(loop.app)
app.add_typer(experiment.app)
app.add_typer(experiment.experiment_app, name="experiment")
app.add_typer(drift.app)
app.add_typer(events.events_app, name="events")
app.add_typer(keys.keys_app, name="keys")
app.add_typer(index.index_app, name="index")
app.add_typer(items.items_app, name="items")


@app.command()
def doctor(
    of_cluster: Annotated[
        bool, typer.Option("--cluster", help="Look at the Kubernetes cluster instead of this machine.")
    ] = False,
) -> None:
    """Say what is installed, reachable and missing, and the remedy; exit 1 where something is missing."""
    findings = examine_cluster(cluster.connect(), Settings()) if of_cluster else examine(Settings())
    table = Table()
    for column in ("", "what", "found", "remedy"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        mark = "[green]ok[/]" if finding.ok else "[red]missing[/]"
        table.add_row(mark, finding.what, finding.found, finding.remedy if not finding.ok else "")
    console.print(table)
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 1)


def main() -> None:
    """Entry point: errors made on purpose, and files that cannot be had, are one sentence, not a stack."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        app()
    except ImmrError as error:
        _fail(error, str(error))
    except OSError as error:
        if error.filename is None:
            raise
        _fail(error, f"{error.filename}: {error.strerror}: look at the path, its rights and the space left")


def _fail(error: Exception, sentence: str) -> NoReturn:
    Console(stderr=True, soft_wrap=True).print(
        f"[red]{type(error).__name__}[/]: {escape(sentence)}", highlight=False
    )
    sys.exit(1)
