"""The order of hits: a ranker that learns from clicks, and the features of items and users that it reads."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from immr import recipes
from immr.cli.help import Commands
from immr.cli.options import (
    NEGATIVE,
    PLACE,
    AsJson,
    DataSource,
    MapFile,
    ModelName,
    OfVersion,
    SetFolder,
    parts_of,
    report,
)
from immr.data.sources.shop import Shop
from immr.data.training_set import TrainingSet
from immr.loop import materialize as materialize_verb
from immr.loop import rank as rank_verb

app = Commands()
features_app = Commands(
    no_args_is_help=True,
    help="Delete a user's features, and never compute any again.\n\nExample: immr features delete user-17",
)

_ForPersonal = Annotated[
    str,
    typer.Option(
        "--recipe",
        metavar="RECIPE",
        help="If this recipe sets `ranker.personal`, users get features too. If not, features of users are deleted, "
        "unless a version in use needs them. By default, as in the last run.",
    ),
]


@app.command()
def materialize(
    ctx: typer.Context,
    training_set: SetFolder,
    data: DataSource,
    mapping: MapFile = None,
    recipe: _ForPersonal = "",
    events: Annotated[
        bool,
        typer.Option("--events", help="Also count the event log. The first run must be without this option."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compute features from clicks, and write them to the online store.

    Items get their price, stock, and the impressions and clicks of the last seven days; users get features only for a
    personal ranker.

    Example: immr materialize training-set my-shop --events
    """
    write = materialize_verb.push if events else materialize_verb.materialize
    personal = recipes.by_name(recipe).ranker.personal if recipe else None
    made = write(parts_of(ctx), TrainingSet(training_set), Shop.of(data, mapping), personal)
    report(made.sentence, asdict(made), as_json)


@features_app.command("delete")
def features_delete(
    ctx: typer.Context,
    user_id: Annotated[
        str, typer.Argument(help="The shop's user id, or the part of a visitor's cookie before the dot.")
    ],
    as_json: AsJson = False,
) -> None:
    """Delete a user's features from the online store, and never compute any again.

    Example: immr features delete user-17
    """
    if not user_id.strip():  # an unset variable in a script would report a deletion that never took place
        raise typer.BadParameter("is empty: give the `user_id` of the user's searches", param_hint="USER_ID")
    materialize_verb.forget(parts_of(ctx), user_id)
    report(
        "The user has no features, and will get none. The event log still has the user's searches and clicks.",
        {"forgotten": True},
        as_json,
    )


@app.command()
def rank(
    ctx: typer.Context,
    training_set: SetFolder,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help=f"The click log; by default the event log. Otherwise {PLACE}",
            show_default=False,
        ),
    ] = "",
    model: ModelName = "champion",
    mapping: MapFile = None,
    recipe: OfVersion = "",
    as_json: AsJson = False,
) -> None:
    """Learn a ranker from clicks; exit 3 if it does not beat the hand-tuned weights.

    If it does, register it together with the model of `--model` as a new version.

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
    raise typer.Exit(0 if ranked.passed else NEGATIVE)
