"""Start and serve: run the search on this machine."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from immr import recipes
from immr.cli.help import Commands
from immr.cli.options import (
    LAST_PORT,
    NEGATIVE,
    AsJson,
    MapFile,
    Port,
    RecipeName,
    console,
    describe,
    note,
    parts_of,
    print_json,
    report,
)
from immr.data.sources.shop import Shop
from immr.data.training_set import TrainingSet
from immr.loop import serve as serve_verb
from immr.loop import start as start_verb
from immr.machine.ctrl_c import ends_on_ctrl_c
from immr.machine.wording import by_number, counted

app = Commands()

_FOLLOW_EVERY_S = 2.0

PagePort = Annotated[int, typer.Option(min=1, max=LAST_PORT, metavar="PORT", help="Port of the web page.")]


@app.command()
def start(
    ctx: typer.Context,
    items: Annotated[
        str,
        typer.Argument(
            metavar="ITEMS", help="The catalogue: a file, folder, glob or URL (docs/your-data.md)."
        ),
    ],
    mapping: MapFile = None,
    recipe: RecipeName = "zero_shot",
    then_serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Serve until Ctrl-C.")] = True,
    port: Port = 8080,
    page_port: PagePort = 8081,
    as_json: AsJson = False,
) -> None:
    """Turn a catalogue without clicks into a running search, with a pretrained version.

    Example: immr start items.parquet
    """
    parts = parts_of(ctx)
    started = start_verb.start(parts, Shop.catalogue(items, mapping), recipes.by_name(recipe))
    use = TrainingSet(started.training_set).use()
    items_are = f"{counted(started.items, 'item')} {by_number(started.items, 'is', 'are')}"
    report(
        f"{items_are} searchable with {started.version_id}, the champion: "
        f"{started.changed:,} new or changed, {started.deleted:,} deleted, {started.rejected:,} rejected; "
        f"report: {started.training_set / 'report.html'}\n" + "\n".join(each.sentence for each in use),
        asdict(started) | {"use": [asdict(each) for each in use]},
        as_json,
    )
    if started.waiting:
        waits = by_number(started.waiting, "waits", "wait")
        note(f"{counted(started.waiting, 'change')} {waits}: run `immr items deliver`")
        raise typer.Exit(NEGATIVE)
    if then_serve:
        _serve(ctx, port, page_port, as_json)
    elif parts.settings.deploys_here:
        note("unless `immr serve` runs already, start it to search")


@app.command()
def serve(ctx: typer.Context, port: Port = 8080, page_port: PagePort = 8081, as_json: AsJson = False) -> None:
    """Run the deployed versions, the gateway and the page on this machine, until Ctrl-C.

    It starts versions that are deployed while it runs, and stops those that are replaced.

    Example: immr serve --port 8080
    """
    _serve(ctx, port, page_port, as_json)


def _serve(ctx: typer.Context, port: int, page_port: int, as_json: bool) -> None:
    out = Console(stderr=True, emoji=False) if as_json else console
    out.print("starting the deployed versions …")
    with (
        ends_on_ctrl_c("stopped", exit_code=0, is_server=True),
        serve_verb.serve(parts_of(ctx), port, page_port) as served,
    ):
        out.print(describe(served.experiment), highlight=False)
        out.print(f"search {served.search_url}/v1/search, page {served.page_url}; Ctrl-C stops both")
        if as_json:
            print_json({"search": f"{served.search_url}/v1/search", "page": served.page_url})
        while True:
            served.follow()
            time.sleep(_FOLLOW_EVERY_S)
