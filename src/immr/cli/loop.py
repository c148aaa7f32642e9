"""The steps of the loop, one command each."""

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

from immr import recipes, steps
from immr.cli.experiment import print_experiment
from immr.cli.options import (
    AsJson,
    DataFolder,
    ModelName,
    RecipeName,
    SetFolder,
    console,
    settings_and_version,
)
from immr.data.training_set import TrainingSet
from immr.evaluation.bootstrap import Interval
from immr.loop import evaluate as judging
from immr.loop import serve as local_serving
from immr.settings import Settings

app = typer.Typer()


@app.command()
def data(
    dataset: Annotated[str, typer.Argument(help="Named data set: grocery or synthetic.")],
    out: Annotated[Path, typer.Option(help="Folder for the tables.")] = Path("shop"),
    seed: Annotated[int, typer.Option(help="Seed of the simulated shoppers.")] = 0,
) -> None:
    """Turn a named data set into a catalogue and a simulated click log with known truth."""
    from immr.datasets.named import load_dataset
    from immr.datasets.simulation import simulate
    from immr.datasets.simulation_recipe import SimulationRecipe

    settings = Settings()
    labelled = load_dataset(dataset, settings.data_mirror, settings.cache_dir)
    simulate(labelled, out, SimulationRecipe(seed=seed))
    console.print(f"{len(labelled.items)} items and the clicks of {dataset} are in {out}")


@app.command()
def govern(
    data: DataFolder,
    out: Annotated[Path, typer.Option(help="Folder for the training set.")] = Path("training-set"),
    recipe: RecipeName = "concept",
) -> None:
    """Clean, group and split a click log into a training set."""
    result = steps.govern(Settings(), data, recipes.by_name(recipe), out)
    console.print(
        f"{len(result.queries)} photos in {result.class_count} classes, {len(result.judgements)} held out; "
        f"manifest {result.hash[:16]}; report: {out / 'report.html'}"
    )


@app.command()
def train(
    training_set: SetFolder,
    recipe: RecipeName = "concept",
    processes: Annotated[int, typer.Option(help="Training processes.")] = 2,
) -> None:
    """Train a recipe on a training set and register the version."""
    chosen = recipes.with_processes(recipes.by_name(recipe), processes)
    version = steps.train(Settings(), TrainingSet(training_set), chosen)
    console.print(f"registered {version.id} (run {version.run_id})")


@app.command()
def evaluate(
    model: ModelName = "champion",
    dataset: Annotated[
        str, typer.Option(help="Named data set: its photos against all of its items.")
    ] = "grocery",
    split: Annotated[str, typer.Option(help="Which of its photos: train, val, test.")] = "val",
    training_set: Annotated[
        Path | None,
        typer.Option(
            help="Judge on this training set's held-out photos, beside the champion, through the gate."
        ),
    ] = None,
    gallery: Annotated[Path, typer.Option(help="Where the gate's gallery goes.")] = Path("gallery.html"),
    recipe: RecipeName = "concept",
    as_json: AsJson = False,
) -> None:
    """Judge a version; with --training-set the gate speaks too, and exit 1 means no."""
    settings, version = settings_and_version(model)
    chosen = recipes.by_name(recipe)
    if training_set is None:
        result = judging.evaluate_dataset(settings, version, dataset, split, chosen)
        _print_metrics(f"{version.id} on {dataset}/{split}", result.intervals, as_json)
        return
    judged = steps.evaluate(settings, version, TrainingSet(training_set), chosen, gallery)
    _print_metrics(f"{version.id} on {training_set}", judged.evaluation.intervals, as_json)
    Console(stderr=True).print(f"{judged.verdict.sentence} Gallery: {gallery}")
    raise typer.Exit(0 if judged.verdict.passed else 1)


@app.command()
def package(model: ModelName, recipe: RecipeName = "concept") -> None:
    """Build a version's Bento."""
    settings, version = settings_and_version(model)
    console.print(steps.package(settings, version, recipes.by_name(recipe)))


@app.command()
def materialize(training_set: SetFolder, data: DataFolder) -> None:
    """Bring item features of a click log's last seven days online."""
    count = steps.materialize(Settings(), TrainingSet(training_set), data)
    console.print(f"{count} items have features online")


@app.command()
def push(training_set: SetFolder, data: DataFolder) -> None:
    """Bring item features online with what the event log has seen since."""
    count = steps.push(Settings(), TrainingSet(training_set), data)
    console.print(f"{count} items have fresh features online")


@app.command()
def deploy(model: ModelName, bento: Annotated[str, typer.Option(help="The Bento's tag.")]) -> None:
    """Let a packaged and indexed version serve: as challenger, or as the first champion."""
    settings, version = settings_and_version(model)
    deployment = steps.deploy(settings, version, bento)
    if settings.deploy_url.startswith("local:"):
        console.print(f"{deployment.version_id} is to serve as {deployment.role}: `immr serve` brings it up")
    else:
        console.print(f"{deployment.version_id} serves as {deployment.role} at {deployment.url}")


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="Port of the gateway.")] = 8080,
    page_port: Annotated[int, typer.Option(help="Port of the page.")] = 8081,
) -> None:
    """Bring up what is deployed on this machine, with gateway and page, until Ctrl-C."""
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.default_int_handler)
    console.print("the deployed versions come up …")
    try:
        with local_serving.serving(Settings(), port, page_port) as served:
            print_experiment(served.experiment)
            console.print(f"search {served.search_url}/v1/search, page {served.page_url}; Ctrl-C ends both")
            signal.pause()
    except KeyboardInterrupt:
        console.print("stopped")


def _print_metrics(title: str, metrics: Mapping[str, Interval], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"what": title, "metrics": {name: asdict(i) for name, i in metrics.items()}}))
        return
    table = Table(title=title)
    for column in ("metric", "mean", "95 % interval"):
        table.add_column(column)
    for name, interval in metrics.items():
        table.add_row(name, f"{interval.mean:.3f}", f"{interval.low:.3f} – {interval.high:.3f}")
    console.print(table)
