"""`immr <step>`: the loop from the command line. Settings come from IMMR_*; see `immr doctor`."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from immr import recipes, steps, wiring
from immr.data.training_set import TrainingSet
from immr.doctor import examine
from immr.errors import ImmrError
from immr.evaluation.bootstrap import Interval
from immr.settings import Settings
from immr.types import ModelVersion

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From a shop's click log and catalogue to a visual search that is A/B-tested and watched.",
)
experiment_app = typer.Typer(no_args_is_help=True, help="A/B tests: start, read out, decide, stop.")
app.add_typer(experiment_app, name="experiment")
console = Console()

RecipeName = Annotated[str, typer.Option("--recipe", help=f"One of: {', '.join(sorted(recipes.RECIPES))}.")]
DataFolder = Annotated[Path, typer.Argument(help="Folder with items, queries and impressions as Parquet.")]
SetFolder = Annotated[Path, typer.Argument(help="Training set, as `immr govern` writes it.")]
ModelName = Annotated[str, typer.Option("--model", help="Version id (immr-3), champion or challenger.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command()
def data(
    dataset: Annotated[str, typer.Argument(help="Named data set: grocery or synthetic.")],
    out: Annotated[Path, typer.Option(help="Folder for the tables.")] = Path("shop"),
    seed: Annotated[int, typer.Option(help="Seed of the simulated shoppers.")] = 0,
) -> None:
    """Turn a named data set into a catalogue and a simulated click log with known truth."""
    from immr.data import datasets
    from immr.data.simulate import SimulationRecipe, simulate

    settings = Settings()
    labelled = datasets.load(dataset, settings.data_mirror, settings.cache_dir)
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
    settings, version = _settings_and_version(model)
    chosen = recipes.by_name(recipe)
    if training_set is None:
        result = steps.evaluate_dataset(settings, version, dataset, split, chosen)
        _print_metrics(f"{version.id} on {dataset}/{split}", result.intervals, as_json)
        return
    judged = steps.evaluate(settings, version, TrainingSet(training_set), chosen, gallery)
    _print_metrics(f"{version.id} on {training_set}", judged.evaluation.intervals, as_json)
    Console(stderr=True).print(f"{judged.verdict.sentence} Gallery: {gallery}")
    raise typer.Exit(0 if judged.verdict.passed else 1)


@app.command()
def package(model: ModelName, recipe: RecipeName = "concept") -> None:
    """Build a version's Bento."""
    settings, version = _settings_and_version(model)
    console.print(steps.package(settings, version, recipes.by_name(recipe)))


@app.command()
def index(training_set: SetFolder, model: ModelName) -> None:
    """Embed the catalogue into a version's own collection, and verify it."""
    settings, version = _settings_and_version(model)
    report = steps.index(settings, version, TrainingSet(training_set).items)
    console.print(
        f"{report.collection}: {report.points} documents, recall@10 {report.recall_at_10:.3f} of exact search"
        + (" (was there already)" if report.reused else "")
    )


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
    settings, version = _settings_and_version(model)
    deployment = steps.deploy(settings, version, bento)
    console.print(f"{deployment.version_id} serves as {deployment.role} at {deployment.url}")


@app.command()
def watch(as_json: AsJson = False) -> None:
    """Read the running experiment out, decide, and write the decision to the promotion log."""
    watched = steps.watch(Settings())
    if as_json:
        typer.echo(json.dumps({"readout": watched.readout.to_json(), "decision": asdict(watched.decision)}))
        return
    _print_readout(watched)


@experiment_app.command("readout")
def experiment_readout(as_json: AsJson = False) -> None:
    """Per variant: users, CTR with interval, and the difference; decides nothing."""
    watched = steps.read_out(Settings())
    if as_json:
        typer.echo(json.dumps({"readout": watched.readout.to_json(), "decision": asdict(watched.decision)}))
        return
    _print_readout(watched)


@app.command()
def doctor() -> None:
    """Say what is installed, reachable and missing, and the remedy; exit 1 where something is missing."""
    findings = examine(Settings())
    table = Table()
    for column in ("", "what", "found", "remedy"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        mark = "[green]ok[/]" if finding.ok else "[red]missing[/]"
        table.add_row(mark, finding.what, finding.found, finding.remedy if not finding.ok else "")
    console.print(table)
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 1)


def main() -> None:
    """Entry point: errors made on purpose are one sentence, not a stack."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        app()
    except ImmrError as error:
        Console(stderr=True).print(f"[red]{type(error).__name__}[/]: {error}", highlight=False)
        sys.exit(1)


def _settings_and_version(model: str) -> tuple[Settings, ModelVersion]:
    settings = Settings()
    return settings, wiring.registry(settings).get(model)


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


def _print_readout(watched: steps.Watched) -> None:
    from immr.experiment.readout import as_rows

    table = Table(title="A/B readout")
    header, *rows = as_rows(watched.readout)
    for column in header:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print(f"[bold]{watched.decision.action}[/]: {watched.decision.reason}", highlight=False)


if __name__ == "__main__":
    main()
