"""Earlier tests: their history, and a report of each to send to others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from immr.cli.options import (
    AsJson,
    ByDimensions,
    console,
    names_in,
    parts_of,
    print_json,
    print_table,
    report,
)
from immr.loop.experiment import history as history_verb
from immr.storage.atomic import write_atomically

app = typer.Typer()


@app.command("history")
def experiment_history(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List all tests, newest first: when, which versions, how they ended, and who ended them.

    Example: `immr experiment history --json`
    """
    found = history_verb.history(parts_of(ctx))
    if as_json:
        print_json([each.to_json() for each in found])
    elif not found:
        console.print("there has been no test yet")
    else:
        table = Table("test", "started (UTC)", "by", "ended (UTC)", "by", "shares", "result", "reason")
        for each in found:
            table.add_row(
                each.name,
                f"{each.started:%Y-%m-%d %H:%M}",
                each.started_by,
                f"{each.ended:%Y-%m-%d %H:%M}" if each.ended else "",
                each.ended_by,
                " → ".join(f"{share:.0%}" for share in each.shares),
                each.outcome,
                each.reason,
            )
        print_table(table)


@app.command("report")
def experiment_report(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("test.html"),
    test: Annotated[str, typer.Option(help="An earlier test, as it was when it ended.")] = "",
    by: ByDimensions = "",
    as_json: AsJson = False,
) -> None:
    """Write a one-page report of a test: result, forest plot, segments, guardrails, and what was done.

    Example: `immr experiment report --by country,day --out test.html`
    """
    write_atomically(out, history_verb.report(parts_of(ctx), test, names_in(by)))
    report(f"wrote {out}", {"file": out}, as_json)
