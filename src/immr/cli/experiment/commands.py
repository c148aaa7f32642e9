"""A/B tests: start, ramp, read out, decide and stop."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from typing import Annotated, Any

import typer

from immr.cli.experiment import plan_and_history
from immr.cli.experiment.readout import show_readout
from immr.cli.help import Commands, Group
from immr.cli.options import (
    AsCsv,
    AsJson,
    ByDimensions,
    ParquetFile,
    Share,
    console,
    describe,
    note,
    parts_of,
    print_json,
)
from immr.cli.values import a_duration, a_share, names_in, shares
from immr.errors import ExperimentBusyError, ImmrError
from immr.experiment.changes import in_percent
from immr.experiment.definition import Experiment, Kind, State
from immr.loop import watch as watch_verb
from immr.loop.experiment import ramp as ramp_verb
from immr.loop.experiment.decide import decide
from immr.loop.experiment.history import history
from immr.loop.experiment.queue import waiting
from immr.loop.experiment.rollback import roll_back
from immr.loop.experiment.running_test import running_test
from immr.loop.experiment.start import shadow, start
from immr.machine.progress_bar import elapsed
from immr.machine.wording import by_number
from immr.wiring import Parts

log = logging.getLogger(__name__)

_NOT_RUNNING: dict[State, str] = {
    "stopped": "This test has been stopped: all users get the champion. `immr experiment start` starts another.",
    "shadow": "In shadow, no user sees the challenger's items, so there is nothing to compare. How many hits both "
    "have in common is in logs/gateway.log and in the gateway's metric `immr_shadow_overlap`.",
}

_ORDER = (
    *("plan", "aa", "start", "ramp", "shadow", "readout", "decide", "stop", "rollback"),
    *("queue", "holdout", "history", "report"),
)


class _ByTask(Group):
    """Lists the commands in the order in which a test needs them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands."""
        return sorted(self.commands, key=_ORDER.index)


app = Commands()
experiment_app = Commands(
    no_args_is_help=True,
    help="Plan, start, ramp, read out, decide and stop A/B tests.\n\nExample: immr experiment start --share 50%",
    cls=_ByTask,
)
experiment_app.add_typer(plan_and_history.app)

IfRevision = Annotated[
    str, typer.Option(metavar="REVISION", help="Act only if `immr status --json` still shows this revision.")
]
MinDays = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="DAYS",
        help="How long the test must last before it promotes or keeps; by default IMMR_MIN_TEST_DAYS, or 7. A "
        "challenger that does harm is rolled back at any time.",
    ),
]


@experiment_app.command("readout")
def experiment_readout(
    ctx: typer.Context,
    exported: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FOLDER|URL",
            help="Read this instead of the event log: the folder of `immr events sink`, or a warehouse with these "
            "tables.",
        ),
    ] = None,
    by: ByDimensions = "",
    as_csv: AsCsv = False,
    parquet: ParquetFile = None,
    as_json: AsJson = False,
) -> None:
    """Show each variant's users and CTR with intervals, and their difference.

    Example: immr experiment readout --by country,device --csv > readout.csv
    """
    parts = parts_of(ctx)
    with elapsed("reading out the test"):
        watched = watch_verb.read_out(parts, exported, names_in(by))
    show_readout(watched, as_csv, parquet, as_json)
    if watched.experiment.challengers and watched.experiment.state != "running":
        note(_NOT_RUNNING[watched.experiment.state])
    if not watched.experiment.challengers and (tests := history(parts)):
        note(
            f"No test is running. `immr experiment report` writes the result of the last one, {tests[0].name}."
        )


@experiment_app.command("start")
def experiment_start(
    ctx: typer.Context,
    share: Annotated[
        float | None,
        typer.Option(
            parser=a_share,
            metavar="SHARE",
            help="Each challenger's share of users: 10% or 0.1; by default the same for all variants.",
        ),
    ] = None,
    interleave: Annotated[
        bool,
        typer.Option("--interleave", help="Show users of the test both versions' items in one result list."),
    ] = False,
    ramp: Annotated[
        str, typer.Option(metavar="SHARE,…", help="Shares to step through instead of --share: 1%,5%,25%,50%.")
    ] = "",
    every: Annotated[
        int,
        typer.Option(
            parser=a_duration,
            metavar="DURATION",
            show_default=False,
            help="How long each share of --ramp lasts: 30m, 6h or 1d; by default 6h.",
        ),
    ] = 6 * 3600,
    holdout: Annotated[
        float | None,
        typer.Option(
            parser=a_share,
            metavar="SHARE",
            help="Share of all users who get the champion in every test from now on; 0 ends the holdout.",
        ),
    ] = None,
    min_days: MinDays = None,
    if_revision: IfRevision = "",
    as_json: AsJson = False,
) -> None:
    """Start an A/B test of the deployed challengers against the champion.

    A ramp advances while the guardrails hold, and ends when one breaks. `immr serve`, the pipeline immr-decide and
    `immr experiment decide --apply --every 1m` see to that.

    Example: immr experiment start --ramp 1%,5%,25%,50% --every 6h
    """
    if ramp and share is not None:
        raise typer.BadParameter("--ramp begins with its first share: leave out --share")
    kind: Kind = "interleave" if interleave else "ab"
    if holdout is not None and not 0 <= holdout < 1:
        raise typer.BadParameter(
            f"{in_percent(holdout)} is not a share of at least 0% and below 100%", param_hint="--holdout"
        )
    steps = shares(ramp, "--ramp") if ramp else []
    first, every_s = (steps[0], every) if steps else (share, None)
    begun = start(parts_of(ctx), first, kind, steps[1:], every_s, holdout, if_revision, min_days)
    _print_experiment(begun, as_json)
    if not begun.challengers:
        note("To test a version, deploy it with `immr deploy --model VERSION`, then start again.")


@experiment_app.command("shadow")
def experiment_shadow(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Send a copy of each search to the challenger; its answers go to the gateway's log only.

    Example: immr experiment shadow
    """
    _print_experiment(shadow(parts_of(ctx)), as_json)


@experiment_app.command("rollback")
def experiment_rollback(ctx: typer.Context, if_revision: IfRevision = "", as_json: AsJson = False) -> None:
    """Send all users to the previous champion at once.

    Example: immr experiment rollback
    """
    _print_experiment(roll_back(parts_of(ctx), if_revision), as_json)


@experiment_app.command("ramp")
def experiment_ramp(
    ctx: typer.Context, share: Share, if_revision: IfRevision = "", as_json: AsJson = False
) -> None:
    """Give each challenger a larger share; its current users stay with it, and the readout starts over.

    Example: immr experiment ramp --share 50%
    """
    _print_experiment(ramp_verb.ramp(parts_of(ctx), share, if_revision), as_json)


@experiment_app.command("stop")
def experiment_stop(ctx: typer.Context, if_revision: IfRevision = "", as_json: AsJson = False) -> None:
    """Send all users to the champion.

    Example: immr experiment stop
    """
    parts = parts_of(ctx)
    _print_experiment(ramp_verb.stop(parts, if_revision), as_json)
    _note_next(parts)


def _note_next(parts: Parts) -> None:
    """Once a test has ended, say which one has started, or what it waits for."""
    if (next_test := running_test(parts)) is not None:
        note(f"{next_test.name} has started from the queue.")
    elif queue := waiting(parts)[: parts.settings.challengers]:
        versions = [each.version.model_version for each in reversed(queue)]
        waits = by_number(len(queue), "is tested next. It waits", "are tested next. They wait")
        note(
            f"{' and '.join(versions)} {waits} for this: {queue[0].reason}. To prevent the test, run `immr "
            f"experiment queue --drop {versions[-1]}`."
        )


@experiment_app.command("decide")
def experiment_decide(
    ctx: typer.Context,
    apply: Annotated[
        bool, typer.Option("--apply", help="Carry out the decision: promote the challenger or remove it.")
    ] = False,
    every: Annotated[
        int | None,
        typer.Option(
            parser=a_duration,
            metavar="DURATION",
            help="Repeat until there is a decision, for example every 30s.",
        ),
    ] = None,
    if_revision: IfRevision = "",
    as_csv: AsCsv = False,
    parquet: ParquetFile = None,
    as_json: AsJson = False,
) -> None:
    """Decide whether to promote, keep, wait or roll back, and log it; --apply carries it out.

    Of several challengers, those that lost leave the test, and at most one is promoted.

    Example: immr experiment decide --apply --every 30s
    """
    parts = parts_of(ctx)
    if every is not None and if_revision:
        raise typer.BadParameter("--if-revision is for a single decision: leave out --every")
    if every is None:
        with elapsed("reading out the test"):
            watched = decide(parts, apply, revision=if_revision)
    else:
        watched = _decide_until_done(parts, apply, every)
    show_readout(watched, as_csv, parquet, as_json)
    if not apply and (watched.decision.action != "wait" or watched.decision.losers):
        note("Nothing has changed: `immr experiment decide --apply` carries this out.")
    running = running_test(parts)
    if apply and (running is None or running.salt != watched.experiment.salt):
        _note_next(parts)


# the same command as a verb of the loop
app.command(
    "watch",
    help=(experiment_decide.__doc__ or "").replace("Example: immr experiment decide", "Example: immr watch"),
)(experiment_decide)


def _decide_until_done(parts: Parts, apply: bool, every_s: int) -> watch_verb.Watched:
    """Retry after errors, so that an outage of the event log does not end the guardrails."""
    while True:
        try:
            watched = decide(parts, apply, record_wait=False)
            if watched.decision.action != "wait":
                return watched
        except ExperimentBusyError:
            log.info("another command is changing the test; trying again in %d s", every_s)
        except (ImmrError, OSError) as error:
            if not parts.settings.experiment_file.is_file():
                raise
            log.warning("could not decide (%s); trying again in %d s", error, every_s)
        time.sleep(every_s)


def _print_experiment(experiment: Experiment, as_json: bool) -> None:
    if as_json:
        print_json(asdict(experiment))
    else:
        console.print(describe(experiment), highlight=False)
