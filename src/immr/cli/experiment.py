"""A/B tests: start, ramp, stop, read out, decide."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from immr import steps
from immr.cli.options import AsJson, console
from immr.experiment.definition import Experiment
from immr.loop import experiment as control
from immr.loop import watch as watching
from immr.settings import Settings

app = typer.Typer()
experiment_app = typer.Typer(no_args_is_help=True, help="A/B tests: start, ramp, stop, read out, decide.")


@app.command()
def watch(as_json: AsJson = False) -> None:
    """Read the running experiment out, decide, and write the decision to the promotion log."""
    _show(steps.watch(Settings()), as_json)


@experiment_app.command("readout")
def experiment_readout(
    exported: Annotated[
        Path | None,
        typer.Option("--from", help="Read impressions*.parquet and searches*.parquet of this folder."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Per variant: users, CTR with interval, and the difference; decides nothing."""
    _show(watching.read_out(Settings(), exported), as_json)


Weight = Annotated[float, typer.Option(help="The challenger's share of the users, above 0 and below 1.")]


@experiment_app.command("start")
def experiment_start(
    weight: Weight = 0.5,
    interleave: Annotated[
        bool, typer.Option("--interleave", help="Show these users the items of both versions in one answer.")
    ] = False,
) -> None:
    """Compare the deployed challenger with the champion; without one the champion serves all users."""
    print_experiment(control.start(Settings(), weight, "interleave" if interleave else "ab"))


@experiment_app.command("shadow")
def experiment_shadow() -> None:
    """Ask the deployed challenger too, unseen: its answers go to the gateway's log."""
    print_experiment(control.shadow(Settings()))


@experiment_app.command("rollback")
def experiment_rollback() -> None:
    """Give all users the champion before this one again, at once."""
    print_experiment(control.roll_back(Settings()))


@experiment_app.command("ramp")
def experiment_ramp(weight: Weight) -> None:
    """Give the challenger a larger share; no user goes back, and the readout begins anew."""
    print_experiment(control.ramp(Settings(), weight))


@experiment_app.command("stop")
def experiment_stop() -> None:
    """Send all users to the champion."""
    print_experiment(control.stop(Settings()))


@experiment_app.command("decide")
def experiment_decide(
    apply: Annotated[bool, typer.Option("--apply", help="Promote, or take the challenger off.")] = False,
    every_s: Annotated[
        float | None, typer.Option(help="Decide again and again, so many seconds apart, until it is done.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Promote, keep, wait or roll back: written to the promotion log, and done with --apply."""
    watched = control.decide(Settings(), apply, record_wait=every_s is None)
    while every_s is not None and watched.decision.action == "wait":
        time.sleep(every_s)
        watched = control.decide(Settings(), apply, record_wait=False)
    _show(watched, as_json)


def _show(watched: watching.Watched, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"readout": watched.readout.to_json(), "decision": asdict(watched.decision)}))
    else:
        _print_readout(watched)


def print_experiment(experiment: Experiment) -> None:
    """Its name, its state, and who serves whom where."""
    shares = ", ".join(
        f"{side.name} {side.model_version} {side.weight:.0%} at {side.url}" for side in experiment.variants
    )
    console.print(f"[bold]{experiment.name}[/] ({experiment.state}): {shares}", highlight=False)


def _print_readout(watched: watching.Watched) -> None:
    from immr.readout.tables import as_rows, preference_rows, secondary_rows

    readout = watched.readout
    _print_table("A/B readout", as_rows(readout))
    _print_table("Interleaving: 1 is the challenger, −1 the champion", preference_rows(readout))
    _print_table("Beside the CTR", secondary_rows(readout))
    for marked in readout.bots:
        console.print(
            f"left out of {marked.variant}: {marked.users} bots ({marked.rule}), {marked.queries} queries"
        )
    if readout.plan is not None and readout.days_to_go is not None:
        console.print(
            f"a lift of {readout.plan.effect:.0%} takes {readout.plan.users_always_valid:,} users to be seen "
            f"at any time, {readout.plan.users_one_look:,} at one look: {readout.days_to_go:.1f} days to go",
            highlight=False,
        )
    console.print(f"[bold]{watched.decision.action}[/]: {watched.decision.reason}", highlight=False)


def _print_table(title: str, rows: Sequence[Sequence[str]]) -> None:
    header, *body = rows
    if not body:
        return
    table = Table(*header, title=title)
    for row in body:
        table.add_row(*row)
    console.print(table)
