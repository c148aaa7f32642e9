"""The verbs of the loop, one command each."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from immr import recipes
from immr.cli.experiment import print_experiment
from immr.cli.options import AsJson, DataSource, MapFile, ModelName, RecipeName, SetFolder, console, parts_of
from immr.data.sources.shop import Shop
from immr.data.training_set import TrainingSet
from immr.evaluation.bootstrap import Estimate
from immr.loop import deploy as deploy_verb
from immr.loop import evaluate as evaluate_verb
from immr.loop import govern as govern_verb
from immr.loop import materialize as materialize_verb
from immr.loop import package as package_verb
from immr.loop import serve as serve_verb
from immr.loop import train as train_verb

app = typer.Typer()


@app.command()
def govern(
    ctx: typer.Context,
    data: DataSource,
    out: Annotated[Path, typer.Option(help="Folder for the training set.")] = Path("training-set"),
    recipe: RecipeName = "concept",
    mapping: MapFile = None,
) -> None:
    """Clean, group and split a click log into a training set.

    Example: immr govern my-shop --out training-set
    """
    result = govern_verb.govern(parts_of(ctx), Shop.of(data, mapping), recipes.by_name(recipe), out)
    console.print(
        f"{len(result.queries)} photos in {result.class_count} classes, {len(result.judgements)} held out; "
        f"manifest {result.hash[:16]}; report: {out / 'report.html'}"
    )


@app.command()
def train(
    ctx: typer.Context,
    training_set: SetFolder,
    recipe: RecipeName = "concept",
    processes: Annotated[int, typer.Option(help="Training processes.")] = 2,
) -> None:
    """Train a recipe on a training set and register the version.

    Example: immr train training-set --recipe concept
    """
    chosen = recipes.with_processes(recipes.by_name(recipe), processes)
    version = train_verb.train(parts_of(ctx), TrainingSet(training_set), chosen)
    console.print(f"registered {version.id} (run {version.run_id})")


@app.command()
def evaluate(
    ctx: typer.Context,
    model: ModelName = "champion",
    dataset: Annotated[
        str, typer.Option(help="Named data set: search its items with its photos.")
    ] = "grocery",
    split: Annotated[str, typer.Option(help="Which of its photos to use: train, val or test.")] = "val",
    training_set: Annotated[
        Path | None,
        typer.Option(help="Evaluate on this training set's held-out photos instead, and apply the gate."),
    ] = None,
    report: Annotated[Path, typer.Option(help="File for the HTML report.")] = Path("evaluation.html"),
    recipe: RecipeName = "concept",
    as_json: AsJson = False,
) -> None:
    """Evaluate a version. With --training-set, also apply the gate; exit 1 if the version does not pass.

    Example: immr evaluate --model immr-1 --training-set training-set
    """
    parts = parts_of(ctx)
    version = parts.registry.get(model)
    chosen = recipes.by_name(recipe)
    if training_set is None:
        result = evaluate_verb.evaluate_dataset(parts, version, dataset, split, chosen)
        _print_metrics(f"{version.id} on {dataset}/{split}", result.intervals, as_json)
        return
    evaluated = evaluate_verb.evaluate(parts, version, TrainingSet(training_set), chosen, report)
    _print_metrics(f"{version.id} on {training_set}", evaluated.evaluation.intervals, as_json)
    Console(stderr=True).print(f"{evaluated.verdict.sentence} Report: {report}")
    raise typer.Exit(0 if evaluated.verdict.passed else 1)


@app.command()
def package(ctx: typer.Context, model: ModelName, recipe: RecipeName = "concept") -> None:
    """Build a version's Bento, and print its tag.

    Example: immr package --model immr-1
    """
    parts = parts_of(ctx)
    console.print(package_verb.package(parts, parts.registry.get(model), recipes.by_name(recipe)))


@app.command()
def materialize(
    ctx: typer.Context, training_set: SetFolder, data: DataSource, mapping: MapFile = None
) -> None:
    """Write item features from a click log's last seven days to the online store.

    Example: immr materialize training-set my-shop
    """
    count = materialize_verb.materialize(parts_of(ctx), TrainingSet(training_set), Shop.of(data, mapping))
    console.print(f"{count} items have features online")


@app.command()
def push(ctx: typer.Context, training_set: SetFolder, data: DataSource, mapping: MapFile = None) -> None:
    """Update the online features with events recorded since.

    Example: immr push training-set my-shop
    """
    count = materialize_verb.push(parts_of(ctx), TrainingSet(training_set), Shop.of(data, mapping))
    console.print(f"{count} items have fresh features online")


@app.command()
def deploy(
    ctx: typer.Context, model: ModelName, bento: Annotated[str, typer.Option(help="The Bento's tag.")]
) -> None:
    """Deploy a packaged and indexed version as challenger, or as champion if there is none.

    Example: immr deploy --model immr-1 --bento immr-search:immr-1
    """
    parts = parts_of(ctx)
    deployment = deploy_verb.deploy(parts, parts.registry.get(model), bento)
    if parts.settings.deploy_url.startswith("local:"):
        console.print(f"{deployment.version_id} is deployed as {deployment.role}: `immr serve` starts it")
    else:
        console.print(f"{deployment.version_id} serves as {deployment.role} at {deployment.url}")


@app.command()
def serve(
    ctx: typer.Context,
    port: Annotated[int, typer.Option(help="Port of the gateway.")] = 8080,
    page_port: Annotated[int, typer.Option(help="Port of the page.")] = 8081,
) -> None:
    """Run the deployed versions, the gateway and the page on this machine, until Ctrl-C.

    Example: immr serve --port 8080
    """
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.default_int_handler)
    console.print("starting the deployed versions …")
    try:
        with serve_verb.serve(parts_of(ctx), port, page_port) as served:
            print_experiment(served.experiment)
            console.print(f"search {served.search_url}/v1/search, page {served.page_url}; Ctrl-C stops both")
            signal.pause()
    except KeyboardInterrupt:
        console.print("stopped")


def _print_metrics(title: str, metrics: Mapping[str, Estimate], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"what": title, "metrics": {name: asdict(i) for name, i in metrics.items()}}))
        return
    table = Table(title=title)
    for column in ("metric", "mean", "95 % interval"):
        table.add_column(column)
    for name, interval in metrics.items():
        table.add_row(name, f"{interval.mean:.3f}", f"{interval.low:.3f} – {interval.high:.3f}")
    console.print(table)
