"""Recipes: list the built-in ones, and print one as TOML to start your own."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from immr import recipes
from immr.cli.help import Commands
from immr.cli.options import AsCsv, AsJson, ParquetFile, console, print_json, saved
from immr.storage.table_files import of_records

recipe_app = Commands(
    no_args_is_help=True, help="List recipes, or print one as TOML.\n\nExample: immr recipe show concept"
)


@recipe_app.command("list")
def recipe_list(as_csv: AsCsv = False, parquet: ParquetFile = None, as_json: AsJson = False) -> None:
    """List the built-in recipes.

    Example: immr recipe list
    """
    listed = {name: (function.__doc__ or "").split("\n")[0] for name, function in recipes.RECIPES.items()}
    rows = [{"recipe": name, "what_it_does": what} for name, what in listed.items()]
    if saved(lambda: of_records(rows, ("recipe", "what_it_does")), as_csv, parquet, as_json):
        return
    if as_json:
        print_json(listed)
        return
    table = Table("recipe", "what it does")
    for row in listed.items():
        table.add_row(*row)
    console.print(table)


@recipe_app.command("show")
def recipe_show(
    name: Annotated[str, typer.Argument(help="A built-in recipe, or a TOML file.")],
    as_json: AsJson = False,
) -> None:
    """Print a recipe as TOML, to start your own.

    Example: immr recipe show concept > my.toml
    """
    recipe = recipes.by_name(name)
    if as_json:
        print_json(asdict(recipe))
    else:
        typer.echo(recipes.to_toml(recipe), nl=False)
