"""Status, models and doctor: what runs, what waits, which versions there are, and what is missing."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from immr.cli.help import Commands
from immr.cli.options import (
    NEGATIVE,
    AsCsv,
    AsJson,
    ParquetFile,
    console,
    describe,
    parts_of,
    print_json,
    print_table,
    saved,
)
from immr.doctor.finding import Finding
from immr.loop.status import Model, Status
from immr.loop.status import models as models_of
from immr.loop.status import status as status_of
from immr.storage.table_files import of_records

app = Commands()


@app.command()
def status(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show what serves where, the running test, what waits, and the last pipeline run.

    Exit 3 if a deployed version does not answer, or a part cannot be read.

    Example: immr status --json
    """
    found = status_of(parts_of(ctx))
    if as_json:
        print_json(found.to_json())
    else:
        _print(found)
    raise typer.Exit(NEGATIVE if found.problems or any(each.problem for each in found.serving) else 0)


@app.command()
def models(
    ctx: typer.Context, as_csv: AsCsv = False, parquet: ParquetFile = None, as_json: AsJson = False
) -> None:
    """List all registered versions, newest first, with their roles and the gate's verdict.

    Example: immr models --json
    """
    found = models_of(parts_of(ctx))
    rows = [asdict(each) for each in found]
    if saved(lambda: of_records(rows, [field.name for field in fields(Model)]), as_csv, parquet, as_json):
        return
    if as_json:
        print_json(rows)
    elif not found:
        console.print("no version is registered yet: run `immr train` first")
    else:
        table = Table(
            "version", "roles", "recipe", "ranker", "registered (UTC)", "Bento", "collection", "gate"
        )
        for each in found:
            table.add_row(
                each.version,
                ", ".join(each.roles),
                f"{each.recipe}, copy of {each.copy_of}" if each.copy_of else each.recipe,
                "learned" if each.ranker else "hand-tuned weights",
                f"{each.registered:%Y-%m-%d %H:%M}",
                "yes" if each.packaged else "no",
                {True: "yes", False: "no", None: "unknown"}[each.indexed],
                _gate(each),
            )
        print_table(table)
        for each in found:
            if each.gate:
                console.print(f"{each.version}: {escape(each.gate)}", highlight=False)


@app.command()
def doctor(
    ctx: typer.Context,
    of_cluster: Annotated[
        bool, typer.Option("--cluster", help="Check the Kubernetes cluster instead of this machine.")
    ] = False,
    as_csv: AsCsv = False,
    parquet: ParquetFile = None,
    as_json: AsJson = False,
) -> None:
    """Check what is installed, what answers and what is missing, and suggest remedies; exit 3 if anything is missing.

    Example: immr doctor --cluster
    """
    from immr.cluster import api
    from immr.doctor.cluster import examine_cluster
    from immr.doctor.local import examine

    parts = parts_of(ctx)
    findings = examine_cluster(api.connect(), parts.settings) if of_cluster else examine(parts)
    rows = [asdict(finding) for finding in findings]
    if saved(lambda: of_records(rows, [field.name for field in fields(Finding)]), as_csv, parquet, as_json):
        pass
    elif as_json:
        print_json(rows)
    else:
        table = Table()
        for column in ("", "what", "found", "remedy"):
            table.add_column(column, overflow="fold")
        for finding in findings:
            mark = "[green]ok[/]" if finding.ok else "[red]missing[/]"
            remedy = "" if finding.ok else finding.remedy
            table.add_row(mark, *map(escape, (finding.what, finding.found, remedy)))
        console.print(table)
    raise typer.Exit(0 if all(finding.ok for finding in findings) else NEGATIVE)


def _gate(model: Model) -> str:
    if model.gate_passed is None:
        return "unknown" if model.gate else "not evaluated"
    return "passed" if model.gate_passed else "stopped"


def _print(found: Status) -> None:
    roles = ", ".join(f"{role} {version}" for role, version in found.roles.items()) or "no version has a role"
    console.print(f"home {escape(found.home)}: {roles}", highlight=False)
    for each in found.serving:
        reason = f" ({escape(each.problem.removeprefix('no answer: '))})" if each.problem else ""
        state = "[red]does not answer[/]" if each.problem else "[green]answers[/]"
        order = f"; hits ordered by a learned ranker: {escape(each.ranker)}" if each.ranker else ""
        copy = f" (a copy of {each.copy_of})" if each.copy_of else ""
        console.print(
            f"{each.role} {each.version}{copy} {state} at {each.url}{reason}{order}", highlight=False
        )
    if any(each.problem and each.url.startswith("http://127.0.0.1:") for each in found.serving):
        console.print("versions on this machine answer while `immr serve` runs")
    if not found.serving:
        console.print("nothing is deployed")
    console.print(describe(found.experiment) if found.experiment else "no test yet", highlight=False)
    if back := found.rollback:
        but = f", but it does not answer ({escape(back.problem)})" if back.problem else ""
        console.print(f"`immr experiment rollback` returns to {back.version}{but}", highlight=False)
    for waiting in found.waiting:
        console.print(f"{waiting.version.model_version} waits: {escape(waiting.reason)}", highlight=False)
    if found.last_run is None:
        console.print("no pipeline has run yet")
    else:
        run = found.last_run
        finding = f": {escape(run.finding)}" if run.finding else ""
        outcome = run.outcome or "is running, or was killed"
        step = f"step {run.step} {'has not ended' if run.state == 'running' else run.state}{finding}"
        console.print(
            f"last pipeline run {run.run}, {run.changed:%Y-%m-%d %H:%M} UTC, {outcome}; {step}",
            highlight=False,
        )
    for problem in found.problems:
        console.print(f"[red]problem[/]: {escape(problem)}", highlight=False)
