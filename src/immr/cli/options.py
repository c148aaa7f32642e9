"""Arguments and options that several commands share, the parts they use, and how they print."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console
from rich.table import Table

from immr.cli.values import a_share, in_words
from immr.machine.wording import counted

if TYPE_CHECKING:
    import pyarrow as pa

    from immr.experiment.definition import Experiment, Variant
    from immr.loop.experiment.queue import Deployed, Waiting
    from immr.wiring import Parts

LAST_PORT = 65_535
_UNLIMITED = 10_000
# a pipe has no width to wrap at; without emoji=False, :b: in a path or an id becomes a picture
console = Console(width=None if sys.stdout.isatty() else _UNLIMITED, emoji=False)

RecipeName = Annotated[
    str,
    typer.Option(
        "--recipe", metavar="RECIPE", help="A built-in recipe (`immr recipe list`), or a TOML file."
    ),
]
OfVersion = Annotated[
    str,
    typer.Option(
        "--recipe",
        metavar="RECIPE",
        help="A built-in recipe, or a TOML file; by default the one of the version.",
    ),
]
PLACE = (
    "a folder (path, s3://, gs:// or https://) with items, queries and impressions as Parquet, CSV or JSON lines; "
    "the URL of a warehouse; or a mapping (.toml) that names its source."
)
SOURCE = f"Your tables: {PLACE}"
DataSource = Annotated[str, typer.Argument(metavar="DATA", help=SOURCE)]
MapFile = Annotated[
    Path | None,
    typer.Option(
        "--map",
        metavar="FILE",
        help="TOML file that maps your columns to the data contract; `immr data check --propose` writes one.",
    ),
]
SetFolder = Annotated[Path, typer.Argument(help="Training set, as written by `immr govern`.")]
ModelName = Annotated[
    str,
    typer.Option("--model", metavar="VERSION", help="A version's id (immr-3), or champion or challenger."),
]
Share = Annotated[
    float,
    typer.Option(parser=a_share, metavar="SHARE", help="Each challenger's share of users: 10% or 0.1."),
]
ShareInQueue = Annotated[
    float,
    typer.Option(
        "--share",
        parser=a_share,
        metavar="SHARE",
        show_default=False,
        help="Share of users in its test, if the version must wait in the queue: 10% or 0.1; by default 50%.",
    ),
]
Host = Annotated[
    str, typer.Option(metavar="ADDRESS", help="Address to listen on; 0.0.0.0 for other machines, too.")
]
Port = Annotated[int, typer.Option(min=1, max=LAST_PORT, metavar="PORT", help="Port to listen on.")]
ByDimensions = Annotated[
    str,
    typer.Option(
        metavar="DIMENSION,…",
        help="Split the CTR by these dimensions: category, day, rank, and those that IMMR_CONTEXT declares.",
    ),
]


NEGATIVE = 3
"""Exit code of a command that did its work and found a problem: a failed gate, drift, a missing part."""


def _one_format(ctx: typer.Context, wanted: bool) -> bool:
    if wanted and (ctx.params.get("as_csv") or ctx.params.get("as_json")):
        raise typer.BadParameter("stdout takes one format: choose --csv or --json")
    return wanted


AsJson = Annotated[bool, typer.Option("--json", callback=_one_format, help="Print JSON instead of text.")]
AsCsv = Annotated[
    bool,
    typer.Option("--csv", callback=_one_format, help="Print the table as CSV, with numbers in full."),
]
ParquetFile = Annotated[
    Path | None, typer.Option("--parquet", metavar="FILE", help="Write the table to a Parquet file.")
]


def parts_of(ctx: typer.Context) -> Parts:
    """The parts that the root command connected."""
    return cast("Parts", ctx.obj)


def print_json(value: Any) -> None:
    """Print a value as one line of JSON; times are ISO 8601."""
    typer.echo(
        json.dumps(value, default=lambda one: one.isoformat() if isinstance(one, datetime) else str(one))
    )


def report(sentence: str, value: Any, as_json: bool) -> None:
    """Print what a command did: as a sentence, or as JSON."""
    if as_json:
        print_json(value)
    else:
        console.print(sentence, markup=False, highlight=False)


def describe(experiment: Experiment) -> str:
    """The name, the state, and each variant's version, share and address, for the console."""
    from immr.experiment.changes import in_percent

    champion = experiment.champion
    held_out = (
        "" if experiment.holdout is None else f"; holdout {in_percent(experiment.holdout.share)} of all users"
    )
    if not experiment.challengers:
        return f"no test: the champion {champion.model_version} serves all users at {champion.url}{held_out}"
    everyone = "" if experiment.state == "running" else f", all users get {champion.model_version}"
    shares = ", ".join(
        f"{side.name} {side.model_version}" + _place(experiment, side) for side in experiment.variants
    )
    steps = ", ".join(in_percent(share) for share in experiment.ramp) if experiment.state == "running" else ""
    ramp = f"; next shares {steps}, each after {in_words(experiment.ramp_every_s or 0)}" if steps else ""
    least = ""
    if experiment.state == "running" and experiment.min_days:
        ends = "keeps the champion" if experiment.kind == "interleave" else "promotes or keeps"
        least = f"; it {ends} after {experiment.min_days:g} days at the earliest"
    return f"[bold]{experiment.name}[/] ({experiment.state}{everyone}): {shares}{ramp}{least}{held_out}"


def _place(experiment: Experiment, side: Variant) -> str:
    """A variant's share of users and its address. After the test, its challengers may have been removed."""
    from immr.experiment.changes import in_percent

    if side.ended:
        return " has left the test"
    if experiment.state == "stopped" and side != experiment.champion:
        return ""
    share = f" {in_percent(side.weight)}" if experiment.state == "running" else ""
    return f"{share} at {side.url}"


def report_deployed(parts: Parts, deployed: Deployed | Waiting, as_json: bool) -> None:
    """Print where a version is deployed, or what it waits for."""
    from immr.loop.experiment.queue import Waiting

    if isinstance(deployed, Waiting):
        name, facts = _named(parts, deployed.version.model_version)
        sentence = f"{name} waits in the queue: {deployed.reason}"
        if deployed.overtakes:
            others = " and ".join(deployed.overtakes)
            sentence += (
                f". It was deployed last, so it starts in place of {others} (`IMMR_CHALLENGERS` says how many "
                "versions start together)"
            )
        report(sentence, {"state": "waiting", **deployed.to_json(), **facts}, as_json)
        return
    to = deployed.deployment
    name, facts = _named(parts, to.version_id)
    serving = f"{name} serves as {to.role} at {to.url}"
    here = f"{name} is deployed as {to.role}; `immr serve` runs it"
    sentence = "; ".join([here if parts.settings.deploys_here else serving, *deployed.losses])
    report(sentence, {"state": "deployed", **deployed.to_json(), **facts}, as_json)


def _named(parts: Parts, version_id: str) -> tuple[str, dict[str, str]]:
    """A version in a sentence, and for JSON, of which version it is a copy for an A/A test."""
    from immr.loop.experiment.aa import COPY_OF

    original = parts.registry.tags(parts.registry.get(version_id)).get(COPY_OF, "")
    return (f"{version_id}, a copy of {original}," if original else version_id), {"copy_of": original}


def saved(rows: Callable[[], pa.Table], as_csv: bool, parquet: Path | None, as_json: bool) -> bool:
    """Write a result's rows as CSV to stdout, or to a Parquet file, if asked to; returns whether that was all."""
    from immr.storage.table_files import to_csv, write_parquet

    if not as_csv and parquet is None:
        return False
    table = rows()
    if parquet is not None:
        write_parquet(table, parquet)
        note(f"wrote {counted(table.num_rows, 'row')} to {parquet}")
    if as_csv:
        typer.echo(to_csv(table), nl=False)
    return not as_json


def note(sentence: str) -> None:
    """Print a sentence on stderr, beside the result of a command on stdout."""
    Console(stderr=True, soft_wrap=True, emoji=False).print(sentence, markup=False, highlight=False)


def print_table(table: Table) -> None:
    """Print a table at its natural width: a narrow terminal wraps its lines, and no number is cut."""
    natural = console.measure(table, options=console.options.update(max_width=_UNLIMITED)).maximum
    Console(width=max(natural, console.width), emoji=False).print(table)
