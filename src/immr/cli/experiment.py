"""A/B tests: start, ramp, stop, read out, decide."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from immr.cli.options import AsJson, console, parts_of
from immr.errors import ImmrError
from immr.experiment.definition import Experiment, Kind
from immr.loop import experiment as experiment_verb
from immr.loop import watch as watch_verb
from immr.wiring import Parts

log = logging.getLogger(__name__)

app = typer.Typer()
experiment_app = typer.Typer(no_args_is_help=True, help="A/B tests: start, ramp, stop, read out, decide.")

Weight = Annotated[float, typer.Option(help="The challenger's share of users, between 0 and 1.")]


@app.command()
def watch(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Read out the running experiment, decide, and write the decision to the promotion log."""
    _show(watch_verb.watch(parts_of(ctx)), as_json)


@experiment_app.command("readout")
def experiment_readout(
    ctx: typer.Context,
    exported: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Folder with impressions*.parquet and searches*.parquet to read instead of the event log.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show each variant's users and CTR, with intervals, and the difference; writes nothing."""
    _show(watch_verb.read_out(parts_of(ctx), exported), as_json)


@experiment_app.command("start")
def experiment_start(
    ctx: typer.Context,
    weight: Weight = 0.5,
    interleave: Annotated[
        bool, typer.Option("--interleave", help="Show these users both versions' items in one result list.")
    ] = False,
) -> None:
    """Compare the deployed challenger with the champion; without a challenger, the champion serves all users."""
    kind: Kind = "interleave" if interleave else "ab"
    print_experiment(experiment_verb.start(parts_of(ctx), weight, kind))


@experiment_app.command("shadow")
def experiment_shadow(ctx: typer.Context) -> None:
    """Send searches to the deployed challenger too; its answers only go to the gateway's log."""
    print_experiment(experiment_verb.shadow(parts_of(ctx)))


@experiment_app.command("rollback")
def experiment_rollback(ctx: typer.Context) -> None:
    """Send all users to the previous champion at once."""
    print_experiment(experiment_verb.roll_back(parts_of(ctx)))


@experiment_app.command("ramp")
def experiment_ramp(ctx: typer.Context, weight: Weight) -> None:
    """Give the challenger a larger share; its current users keep it, and the readout starts over."""
    print_experiment(experiment_verb.ramp(parts_of(ctx), weight))


@experiment_app.command("stop")
def experiment_stop(ctx: typer.Context) -> None:
    """Send all users to the champion."""
    print_experiment(experiment_verb.stop(parts_of(ctx)))


@experiment_app.command("decide")
def experiment_decide(
    ctx: typer.Context,
    apply: Annotated[
        bool, typer.Option("--apply", help="Carry out the decision: promote the challenger or remove it.")
    ] = False,
    every_s: Annotated[
        float | None, typer.Option(help="Repeat at this interval in seconds until there is a decision.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Decide to promote, keep, wait or roll back; log the decision, and carry it out with --apply."""
    parts = parts_of(ctx)
    if every_s is None:
        _show(experiment_verb.decide(parts, apply), as_json)
    else:
        _show(_decide_until_done(parts, apply, every_s), as_json)


def _decide_until_done(parts: Parts, apply: bool, every_s: float) -> watch_verb.Watched:
    """Retry after errors, so that an outage of the event log does not end the guardrails."""
    while True:
        try:
            watched = experiment_verb.decide(parts, apply, record_wait=False)
            if watched.decision.action != "wait":
                return watched
        except (ImmrError, OSError) as error:
            if not parts.settings.experiment_file.is_file():
                raise
            log.warning("could not decide (%s); trying again in %g s", error, every_s)
        time.sleep(every_s)


def _show(watched: watch_verb.Watched, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"readout": watched.readout.to_json(), "decision": asdict(watched.decision)}))
    else:
        _print_readout(watched)


def print_experiment(experiment: Experiment) -> None:
    """Print the name, the state, and each variant's version, share and address."""
    shares = ", ".join(
        f"{side.name} {side.model_version} {side.weight:.0%} at {side.url}" for side in experiment.variants
    )
    console.print(f"[bold]{experiment.name}[/] ({experiment.state}): {shares}", highlight=False)


def _print_readout(watched: watch_verb.Watched) -> None:
    from immr.readout.tables import as_rows, preference_rows, secondary_rows

    readout = watched.readout
    _print_table("A/B readout", as_rows(readout))
    _print_table("Interleaving: 1 prefers the challenger, −1 the champion", preference_rows(readout))
    _print_table("Other metrics", secondary_rows(readout))
    for marked in readout.bots:
        console.print(
            f"excluded from {marked.variant}: {marked.users} bots ({marked.rule}), {marked.queries} queries"
        )
    if readout.plan is not None and readout.days_to_go is not None:
        console.print(
            f"detecting a lift of {readout.plan.effect:.0%} needs {readout.plan.users_always_valid:,} users "
            f"with any number of looks, {readout.plan.users_one_look:,} with one look: "
            f"about {readout.days_to_go:.1f} more days",
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
