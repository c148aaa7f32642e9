"""`immr rank`: learn the order of hits from clicks."""

from __future__ import annotations

from typing import Annotated

import typer

from immr import recipes
from immr.cli.options import SOURCE, AsJson, MapFile, ModelName, OfVersion, SetFolder, parts_of, report
from immr.data.sources.shop import Shop
from immr.data.training_set import TrainingSet
from immr.loop import rank as rank_verb

app = typer.Typer()


@app.command()
def rank(
    ctx: typer.Context,
    training_set: SetFolder,
    data: Annotated[
        str, typer.Argument(help=f"The click log; by default the event log. {SOURCE}", show_default=False)
    ] = "",
    model: ModelName = "champion",
    mapping: MapFile = None,
    recipe: OfVersion = "",
    as_json: AsJson = False,
) -> None:
    """Learn a ranker from clicks, and register it with a version's towers if it beats the hand weights; else exit 1.

    Example: immr rank training-set my-shop --model champion
    """
    parts = parts_of(ctx)
    version = parts.registry.get(model)
    chosen = recipes.by_name(recipe) if recipe else recipes.of_version(parts.registry, version)
    shop = Shop.of(data, mapping) if data else None
    ranked = rank_verb.rank(parts, version, TrainingSet(training_set), chosen, shop)
    registered = f"Registered {ranked.version.id}." if ranked.passed else f"{version.id} stays as it is."
    report(
        f"{ranked.sentence} {registered}",
        {
            "version": ranked.version.id,
            "ranker_of": version.id,
            "passed": ranked.passed,
            "sentence": ranked.sentence,
            "numbers": ranked.numbers,
        },
        as_json,
    )
    raise typer.Exit(0 if ranked.passed else 1)
