"""The commands, with the parts that they share, and how their errors are printed."""

from __future__ import annotations

import errno
import sys
from dataclasses import asdict
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from immr import __version__
from immr.cli import (
    data,
    drift,
    events,
    experiment,
    index,
    items,
    keys,
    loop,
    past_tests,
    rank,
    recipe,
    status,
)
from immr.cli.options import AsJson, console, parts_of, print_json
from immr.errors import ImmrError
from immr.machine.library_log import libraries_log_to, show_own_messages
from immr.settings import Settings
from immr.wiring import connect

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Turn a shop's catalogue and click log into a visual search service: train it, deploy it, A/B-test it.",
)
app.add_typer(data.data_app, name="data")
app.add_typer(loop.app)
app.add_typer(rank.app)
app.add_typer(status.app)
app.add_typer(experiment.app)
experiment.experiment_app.add_typer(past_tests.app)
app.add_typer(experiment.experiment_app, name="experiment")
app.add_typer(drift.app)
app.add_typer(events.events_app, name="events")
app.add_typer(keys.keys_app, name="keys")
app.add_typer(index.index_app, name="index")
app.add_typer(items.items_app, name="items")
app.add_typer(recipe.recipe_app, name="recipe")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"immr {__version__}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print IMMR's version.")
    ] = False,
) -> None:
    """Connect once; the command gets these parts, and they are closed when it ends."""
    settings = Settings()
    ctx.with_resource(libraries_log_to(settings.home / "logs" / "libraries.log"))
    ctx.obj = ctx.with_resource(connect(settings))


@app.command()
def doctor(
    ctx: typer.Context,
    of_cluster: Annotated[
        bool, typer.Option("--cluster", help="Check the Kubernetes cluster instead of this machine.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check what is installed, reachable or missing, and suggest remedies; exit 1 if something is missing.

    Example: immr doctor --cluster
    """
    from immr.cluster import api
    from immr.doctor.cluster import examine_cluster
    from immr.doctor.local import examine

    parts = parts_of(ctx)
    findings = examine_cluster(api.connect(), parts.settings) if of_cluster else examine(parts)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        table = Table()
        for column in ("", "what", "found", "remedy"):
            table.add_column(column, overflow="fold")
        for finding in findings:
            mark = "[green]ok[/]" if finding.ok else "[red]missing[/]"
            table.add_row(mark, finding.what, finding.found, finding.remedy if not finding.ok else "")
        console.print(table)
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 1)


def run() -> None:
    """Run the command. IMMR's errors, and files that cannot be read or written, print one sentence; exit code 1."""
    show_own_messages()
    try:
        app()
    except ImmrError as error:
        _fail(error, str(error))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):  # often without the file's name
            _fail(
                error,
                f"{error.filename or 'the disk of IMMR_HOME'}: {error.strerror}: free some space, then run it again",
            )
        if error.filename is None:
            raise
        _fail(
            error, f"{error.filename}: {error.strerror}: check the path, its permissions and the free space"
        )


def _fail(error: Exception, sentence: str) -> NoReturn:
    Console(stderr=True, soft_wrap=True).print(
        f"[red]{type(error).__name__}[/]: {escape(sentence)}", highlight=False
    )
    sys.exit(1)
