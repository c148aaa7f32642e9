"""Prints a readout: as tables, CSV, Parquet or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from immr.cli.options import console, print_json, print_table, saved
from immr.loop.watch import Watched


def show_readout(watched: Watched, as_csv: bool, parquet: Path | None, as_json: bool) -> None:
    """Print the readout in the format that was asked for."""
    from immr.readout.formats import tidy

    if saved(lambda: tidy.rows(watched.readout, watched.segments), as_csv, parquet, as_json):
        return
    if as_json:
        segments = [each.to_json() for each in watched.segments]
        decision = asdict(watched.decision)
        about = {"state": watched.experiment.state, "readout": watched.readout.to_json()}
        print_json({**about, "decision": decision, "segments": segments})
    else:
        _print_readout(watched)


def _print_readout(watched: Watched) -> None:
    from immr.readout.formats import text
    from immr.readout.formats.report import progress

    experiment, readout = watched.experiment, watched.readout
    _print_table(text.TITLES[experiment.kind], text.as_rows(readout))
    _print_table("Preference: 1 is for the challenger, −1 for the champion", text.preference_rows(readout))
    _print_table("Other metrics", text.secondary_rows(readout))
    if readout.revenue is not None:
        console.print(readout.revenue.sentence, highlight=False)
    _print_table("CTR by segment, corrected for their number", text.segment_rows(watched.segments))
    _print_table("Sample ratio and guardrails", text.check_rows(readout))
    if (ratio := readout.sample_ratio) is not None and ratio.ok:
        console.print(f"the users match the shares (p = {ratio.p_value:.3f})", highlight=False)
    for marked in readout.bots:
        console.print(
            f"bots of {marked.variant} ({marked.rule}): {marked.users:,} excluded, queries: {marked.queries:,}"
        )
    if readout.plan is not None:
        so_far = progress(experiment, readout, watched.decision)
        console.print(
            f"{so_far + '; ' if so_far else ''}detecting a lift of {readout.plan.effect:.0%} needs "
            f"{readout.plan.users_always_valid:,} users with any number of looks, "
            f"{readout.plan.users_one_look:,} with one look",
            highlight=False,
        )
    for verdict, reason in text.verdicts(experiment, watched.decision):
        console.print(f"[bold]{verdict}[/]: {reason}", highlight=False)


def _print_table(title: str, rows: Sequence[Sequence[str]]) -> None:
    header, *body = rows
    if not body:
        return
    table = Table(*header, title=title)
    for row in body:
        table.add_row(*map(escape, row))
    print_table(table)
