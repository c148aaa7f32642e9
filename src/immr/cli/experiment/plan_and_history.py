"""Commands for before and after a test: plan, A/A test, queue, history, a report to send, and the holdout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from immr.cli.help import Commands
from immr.cli.options import (
    AsCsv,
    AsJson,
    ByDimensions,
    ParquetFile,
    Share,
    ShareInQueue,
    console,
    note,
    parts_of,
    print_json,
    print_table,
    report,
    report_deployed,
    saved,
)
from immr.cli.values import a_share, names_in, shares
from immr.experiment.changes import in_percent
from immr.loop.experiment import history as history_verb
from immr.loop.experiment import plan as plan_verb
from immr.loop.experiment import queue
from immr.loop.experiment.aa import deploy_copy
from immr.loop.experiment.holdout import read_holdout
from immr.machine.progress_bar import elapsed
from immr.storage.atomic import write_atomically
from immr.storage.table_files import of_records

_OF_A_PLAN = ("lift", "users", "days", "users_one_look", "days_one_look")
_OF_THE_QUEUE = ("model_version", "bento", "share", "since", "force", "problem", "reason")
_OF_A_TEST = (
    "name",
    "champion",
    "challenger",
    "shares",
    "started",
    "started_by",
    "ended",
    "ended_by",
    "outcome",
    "winner",
    "reason",
)

app = Commands()


def _power(value: str | float) -> float:
    power = a_share(value)
    if not 0.5 <= power <= 0.99:
        raise typer.BadParameter(f"{value} is not a probability between 50% and 99%")
    return power


@app.command("plan")
def experiment_plan(
    ctx: typer.Context,
    lift: Annotated[
        str, typer.Option(metavar="SHARE,…", help="Relative lifts of the CTR that the test should detect.")
    ] = "2%,5%,10%,20%",
    share: Share = 0.5,
    power: Annotated[
        float,
        typer.Option(
            parser=_power,
            metavar="SHARE",
            show_default=False,
            help="Probability of finding a lift that exists; by default 80%.",
        ),
    ] = 0.8,
    challengers: Annotated[
        int, typer.Option(min=1, max=9, metavar="COUNT", help="How many challengers the test has.")
    ] = 1,
    as_csv: AsCsv = False,
    parquet: ParquetFile = None,
    as_json: AsJson = False,
) -> None:
    """Estimate how many users and days a test needs, from the champion's last two weeks.

    Example: immr experiment plan --lift 5% --share 10%
    """
    lifts = shares(lift, "--lift")
    with elapsed("reading the champion's last two weeks"):
        planned = plan_verb.plan(parts_of(ctx), lifts, share, power, challengers)
    if saved(lambda: of_records(planned.to_json()["needed"], _OF_A_PLAN), as_csv, parquet, as_json):
        return
    if as_json:
        print_json(planned.to_json())
        return
    table = Table("lift", "users", "days", "users, one look", "days, one look")
    for each in planned.needed:
        days, once = ("–" if left is None else f"{left:,.1f}" for left in (each.days, each.days_one_look))
        table.add_row(f"{each.lift * 100:+g} %", f"{each.users:,}", days, f"{each.users_one_look:,}", once)
    print_table(table)
    counted = "both variants" if challengers == 1 else "the champion and one challenger"
    pace = (
        "in less than a day, too short to estimate days"
        if planned.users_per_day is None
        else f"{planned.users_per_day:,.1f} a day"
    )
    console.print(
        f"Users of {counted} together, to detect the lift with a probability of {power:.0%}, however often you look. "
        f"In the last two weeks {planned.users:,} users searched, {pace}; the CTR of {planned.champion} was "
        f"{planned.ctr:.2%}."
        + (
            f" A test lasts at least {least:g} days."
            if (least := parts_of(ctx).settings.min_test_days)
            else ""
        ),
        highlight=False,
    )


@app.command("aa")
def experiment_aa(
    ctx: typer.Context,
    share: ShareInQueue = 0.5,
    as_json: AsJson = False,
) -> None:
    """Deploy a copy of the champion as challenger, for an A/A test of the measurement itself.

    Example: immr experiment aa
    """
    parts = parts_of(ctx)
    report_deployed(parts, deploy_copy(parts, share), as_json)


@app.command("queue")
def experiment_queue(
    ctx: typer.Context,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume the queue, which a rollback pauses.")
    ] = False,
    drop: Annotated[str, typer.Option(metavar="VERSION", help="Remove this version from the queue.")] = "",
    as_csv: AsCsv = False,
    parquet: ParquetFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the versions that wait for the running test to end; the one deployed last starts next.

    Example: immr experiment queue --drop immr-4
    """
    parts = parts_of(ctx)
    if drop:
        queue.drop(parts, drop)
        note(f"{drop} has left the queue")
    if resume:
        was_held = queue.resume(parts)
        note("the queue is no longer paused" if was_held else "the queue was not paused")
    found = queue.waiting(parts)
    if saved(lambda: of_records([each.to_json() for each in found], _OF_THE_QUEUE), as_csv, parquet, as_json):
        return
    if as_json:
        print_json([each.to_json() for each in found])
    elif not found:
        console.print("no version waits")
    else:
        table = Table("version", "share", "since (UTC)", "waits for")
        for each in found:
            version = each.version
            table.add_row(
                version.model_version,
                in_percent(version.share),
                f"{version.since:%Y-%m-%d %H:%M}",
                escape(each.reason),
            )
        print_table(table)


@app.command("history")
def experiment_history(
    ctx: typer.Context, as_csv: AsCsv = False, parquet: ParquetFile = None, as_json: AsJson = False
) -> None:
    """List all tests, newest first: dates, versions, result, and who ended them.

    Example: immr experiment history --json
    """
    found = history_verb.history(parts_of(ctx))
    if saved(lambda: of_records([each.to_json() for each in found], _OF_A_TEST), as_csv, parquet, as_json):
        return
    if as_json:
        print_json([each.to_json() for each in found])
    elif not found:
        console.print("there has been no test yet")
    else:
        table = Table("test", "started (UTC)", "by", "ended (UTC)", "by", "shares", "result")
        for each in found:
            table.add_row(
                each.name,
                f"{each.started:%Y-%m-%d %H:%M}",
                each.started_by,
                f"{each.ended:%Y-%m-%d %H:%M}" if each.ended else "",
                each.ended_by,
                " → ".join(in_percent(share) for share in each.shares),
                f"{each.winner} {each.outcome}" if each.winner else each.outcome,
            )
        print_table(table)
        for each in found:
            if each.reason:
                console.print(f"{each.name}: {escape(each.reason)}", highlight=False)


@app.command("report")
def experiment_report(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The HTML file to write.")] = Path("test.html"),
    test: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="An earlier test, by its name; by default the current or last one."
        ),
    ] = "",
    by: ByDimensions = "",
    as_json: AsJson = False,
) -> None:
    """Write a one-page report of a test: result, forest plot, segments, guardrails, history.

    Example: immr experiment report --by country,day --out test.html
    """
    with elapsed("reading out the test"):
        text = history_verb.report(parts_of(ctx), test, names_in(by))
    write_atomically(out, text)
    report(f"wrote {out}", {"file": out}, as_json)


@app.command("holdout")
def experiment_holdout(
    ctx: typer.Context, as_csv: AsCsv = False, parquet: ParquetFile = None, as_json: AsJson = False
) -> None:
    """Compare users who get the champion in every test with all others, over all tests since the holdout began.

    `immr experiment start --holdout 5%` begins one.

    Example: immr experiment holdout
    """
    from immr.readout.formats import tidy
    from immr.readout.formats.text import holdout_rows

    with elapsed("reading out the holdout"):
        found = read_holdout(parts_of(ctx))
    if saved(lambda: tidy.rows(found.readout), as_csv, parquet, as_json):
        return
    if as_json:
        print_json(found.to_json())
        return
    header, *rows = holdout_rows(found.readout)
    since = f"{found.holdout.since:%Y-%m-%d %H:%M}"
    table = Table(*header, title=f"{found.holdout.share:.1%} of all users are held out since {since} UTC")
    for row in rows:
        table.add_row(*row)
    print_table(table)
    if found.readout.withheld:
        console.print(f"no comparison: {found.readout.withheld}", highlight=False)
