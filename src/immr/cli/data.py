"""Data: check your own tables, or write a named data set as a shop."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from immr.cli.help import Commands
from immr.cli.options import (
    NEGATIVE,
    SOURCE,
    AsCsv,
    AsJson,
    MapFile,
    ParquetFile,
    console,
    note,
    parts_of,
    print_json,
    print_table,
    report,
    saved,
)
from immr.datasets.named import DATASETS, load_dataset
from immr.machine.wording import counted
from immr.storage.atomic import write_atomically
from immr.storage.table_files import of_records

if TYPE_CHECKING:
    from immr.data.validation.check import TableReport

_COLUMNS = ("table", "files", "sampled", "valid", "fits", "problem", "rows", "example", "error")

data_app = Commands(
    no_args_is_help=True,
    help="Check your own tables, or write a sample shop.\n\nExample: immr data check my-shop",
)


@data_app.command("check")
def data_check(
    source: Annotated[
        str, typer.Argument(metavar="DATA", help=f"{SOURCE} A single file is read as a catalogue.")
    ],
    mapping: MapFile = None,
    propose: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write a proposed mapping to this file, and check the tables with it."
        ),
    ] = None,
    rows: Annotated[
        int, typer.Option(min=1, metavar="COUNT", help="Rows to sample from each table.")
    ] = 100_000,
    as_csv: AsCsv = False,
    parquet: ParquetFile = None,
    as_json: AsJson = False,
) -> None:
    """Check a sample of your tables against the data contract; exit 3 if something does not fit.

    Example: immr data check my-shop --propose map.toml
    """
    from immr.data.sources.shop import Shop
    from immr.data.validation.check import check, proposed_mapping

    shop = Shop.of(source, mapping)
    reports, wrote = check(shop, rows), ""
    if propose is not None:
        if text := proposed_mapping(reports, shop):
            write_atomically(propose, text)
            reports = check(Shop.of(shop.uri, propose), rows)
            wrote = f"wrote {propose}: read it, correct it, then use it with --map {propose}"
        else:
            wrote = f"there is nothing to propose, so {propose} was not written"
    if saved(lambda: of_records([*_rows(reports)], _COLUMNS), as_csv, parquet, as_json):
        pass
    elif as_json:
        print_json([asdict(checked) | {"fits": checked.fits} for checked in reports])
    else:
        _print(reports, "" if propose else proposed_mapping(reports, shop))
    if wrote:
        note(wrote)
    if _is_catalogue_alone(reports):
        note(_next_step(source, propose if wrote.startswith("wrote") else mapping, reports))
    raise typer.Exit(0 if all(checked.fits for checked in reports) else NEGATIVE)


def _is_catalogue_alone(reports: Sequence[TableReport]) -> bool:
    """Whether the items fit, and all other tables are missing."""
    others = [checked for checked in reports if checked.name != "items"]
    fits = all(checked.fits for checked in reports if checked.name == "items")
    return fits and bool(others) and not any(checked.files for checked in others)


def _next_step(source: str, mapping: Path | None, reports: Sequence[TableReport]) -> str:
    if any(checked.all_pictures_missing for checked in reports):
        return (
            "a search needs pictures, and none of the items' pictures can be read: relative paths start at the "
            "folder of the tables, or at `base` under [pictures] of a mapping"
        )
    by_map = f" --map {shlex.quote(str(mapping))}" if mapping else ""
    command = f"immr start {shlex.quote(source)}{by_map}"
    return f"without photos and clicks, `{command}` makes the items searchable"


def _rows(reports: Sequence[TableReport]) -> Iterator[dict[str, object]]:
    """One row per problem; a table without problems has one row, too."""
    for checked in reports:
        about = asdict(checked) | {"table": checked.name, "fits": checked.fits}
        for problem in checked.problems or (None,):
            reason, rows, example = (
                (problem.reason, problem.rows, problem.example) if problem else (None,) * 3
            )
            yield about | {"problem": reason, "rows": rows, "example": example}


def _print(reports: Sequence[TableReport], proposed: str) -> None:
    table = Table("table", "files", "rows sampled", "valid", "problem", "rows", "example")
    for checked in reports:
        counts = (checked.name, str(checked.files), f"{checked.sampled:,}", f"{checked.valid:,}")
        if checked.error:
            table.add_row(*counts, "[red]does not fit, see below[/]", "", "")
        elif not checked.problems:
            table.add_row(*counts, "[green]none[/]", "", "")
        for number, problem in enumerate(() if checked.error else checked.problems):
            shown = counts if number == 0 else ("",) * 4
            table.add_row(*shown, problem.reason, f"{problem.rows:,}", escape(problem.example))
    print_table(table)
    for checked in reports:
        if checked.error:
            console.print(f"{checked.name}: {escape(checked.error)}", highlight=False)
        if checked.missing_pictures:
            console.print(f"{checked.name}: {escape(checked.missing_pictures)}", highlight=False)
        noticed = checked.unclear_price, checked.unknown_items, checked.shifted_times, checked.late_positions
        for sentence in filter(None, noticed):
            console.print(f"{checked.name}: {escape(sentence)}", highlight=False)
        if checked.ignored_columns:
            ignored = f"{checked.name}: ignored columns {escape(', '.join(checked.ignored_columns))}"
            hint = " (declare what searches should filter by in attributes.toml)"
            console.print(ignored + hint * (checked.name == "items"), highlight=False)
    if proposed:
        console.print("Proposed mapping (write it to a file with --propose map.toml):\n")
        console.print(proposed, markup=False, highlight=False, soft_wrap=True)


def _add_dataset(name: str) -> None:
    @data_app.command(
        name,
        help=f"Write a sample shop from the data set {name}: its catalogue, and a simulated click log.\n\n"
        f"Example: immr data {name} --out my-shop",
    )
    def write(
        ctx: typer.Context,
        out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the tables.")] = Path("shop"),
        seed: Annotated[int, typer.Option(metavar="NUMBER", help="Seed of the simulated shoppers.")] = 0,
        as_json: AsJson = False,
    ) -> None:
        from immr.datasets.simulation import simulate
        from immr.datasets.simulation_recipe import SimulationRecipe

        settings = parts_of(ctx).settings
        labelled = load_dataset(name, settings.data_mirror, settings.cache_dir)
        simulate(labelled, out, SimulationRecipe(seed=seed))
        report(
            f"wrote {counted(len(labelled.items), 'item')} and simulated clicks of {name} to {out}",
            {"data_set": name, "items": len(labelled.items), "folder": out},
            as_json,
        )


for _name in DATASETS:
    _add_dataset(_name)
