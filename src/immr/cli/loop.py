"""The verbs of the loop, one command each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from immr import recipes
from immr.cli.help import Commands
from immr.cli.options import (
    NEGATIVE,
    AsCsv,
    AsJson,
    DataSource,
    MapFile,
    ModelName,
    OfVersion,
    ParquetFile,
    RecipeName,
    SetFolder,
    ShareInQueue,
    console,
    note,
    parts_of,
    print_json,
    print_table,
    report,
    report_deployed,
    saved,
)
from immr.data.sources.shop import Shop
from immr.data.training_set import TrainingSet
from immr.evaluation.bootstrap import Estimate
from immr.evaluation.queries.kinds import KINDS, KindResult
from immr.loop import evaluate as evaluate_verb
from immr.loop import govern as govern_verb
from immr.loop import package as package_verb
from immr.loop import train as train_verb
from immr.loop.experiment.queue import deploy_or_wait
from immr.machine.wording import counted
from immr.storage.table_files import of_records

app = Commands()


@app.command()
def govern(
    ctx: typer.Context,
    data: DataSource,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the training set.")] = Path(
        "training-set"
    ),
    recipe: RecipeName = "concept",
    mapping: MapFile = None,
    as_json: AsJson = False,
) -> None:
    """Clean, group and split a click log into a training set.

    Example: immr govern my-shop --out training-set
    """
    result = govern_verb.govern(parts_of(ctx), Shop.of(data, mapping), recipes.by_name(recipe), out)
    use = result.use()
    photos, classes = counted(len(result.queries), "photo"), counted(result.class_count, "class")
    report(
        f"{photos} in {classes}, {len(result.judgements)} held out; "
        f"manifest {result.hash[:16]}; report: {out / 'report.html'}\n"
        + "\n".join(each.sentence for each in use),
        {
            "photos": len(result.queries),
            "classes": result.class_count,
            "held_out": len(result.judgements),
            "manifest": result.hash,
            "folder": result.folder,
            "use": [asdict(each) for each in use],
        },
        as_json,
    )


@app.command()
def train(
    ctx: typer.Context,
    training_set: SetFolder,
    recipe: RecipeName = "concept",
    processes: Annotated[
        int, typer.Option(metavar="COUNT", help="Training processes, over which the classifier is sharded.")
    ] = 2,
    as_json: AsJson = False,
) -> None:
    """Train a model with a recipe on a training set, and register it as a version.

    Example: immr train training-set --recipe concept
    """
    chosen = recipes.with_processes(recipes.by_name(recipe), processes)
    governed = TrainingSet(training_set)
    version = train_verb.train(parts_of(ctx), governed, chosen)
    use = [each for each in governed.use() if each.table == "queries"]
    report(
        "\n".join([f"registered {version.id} (run {version.run_id})", *(each.sentence for each in use)]),
        asdict(version) | {"id": version.id, "use": [asdict(each) for each in use]},
        as_json,
    )


@app.command()
def evaluate(
    ctx: typer.Context,
    model: ModelName = "champion",
    dataset: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Evaluate on this data set instead (grocery, icons, synthetic), without the gate.",
        ),
    ] = "",
    split: Annotated[
        str, typer.Option(metavar="NAME", help="With --dataset: its photos of this split (train, val, test).")
    ] = "val",
    training_set: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Use the held-out photos of this training set; by default those of the version's own.",
        ),
    ] = None,
    report_file: Annotated[
        Path, typer.Option("--report", metavar="FILE", help="File for the HTML report.")
    ] = Path("evaluation.html"),
    queries: Annotated[
        str,
        typer.Option(
            metavar="KIND,…", help="Also report recall by kind of query: photo,text,photo+text,box."
        ),
    ] = "",
    recipe: OfVersion = "",
    as_csv: AsCsv = False,
    parquet: ParquetFile = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a version on held-out photos, compare it with the champion, and apply the gate; exit 3 if it fails.

    Example: immr evaluate --model immr-3 --queries photo,text,photo+text,box
    """
    kinds = _kinds(queries)
    parts = parts_of(ctx)
    version = parts.registry.get(model)
    chosen = recipes.by_name(recipe) if recipe else recipes.of_version(parts.registry, version)
    if dataset:
        result, by_kind = evaluate_verb.evaluate_dataset(parts, version, dataset, split, chosen, kinds)
        title, intervals = f"{version.id} on {dataset}/{split}", result.intervals
        _show_metrics(title, intervals, by_kind, as_csv, parquet, as_json)
        return
    held_out = TrainingSet(training_set) if training_set else govern_verb.training_set_of(parts, version)
    evaluated = evaluate_verb.evaluate(parts, version, held_out, chosen, report_file, kinds)
    title, intervals = f"{version.id} on {held_out.folder}", evaluated.evaluation.intervals
    _show_metrics(title, intervals, evaluated.kinds, as_csv, parquet, as_json)
    note(f"{evaluated.verdict.sentence} Report: {report_file}")
    raise typer.Exit(0 if evaluated.verdict.passed else NEGATIVE)


@app.command()
def package(ctx: typer.Context, model: ModelName, recipe: OfVersion = "", as_json: AsJson = False) -> None:
    """Build a version's Bento, and print its tag and what it lacks.

    Example: immr package --model immr-3
    """
    parts = parts_of(ctx)
    version = parts.registry.get(model)
    chosen = recipes.by_name(recipe) if recipe else recipes.of_version(parts.registry, version)
    packaged = package_verb.package(parts, version, chosen)
    report(packaged.sentence, asdict(packaged), as_json)


@app.command()
def deploy(
    ctx: typer.Context,
    model: ModelName,
    bento: Annotated[
        str,
        typer.Option(metavar="TAG", help="The Bento's tag; by default the one that `immr package` printed."),
    ] = "",
    share: ShareInQueue = 0.5,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Deploy the version even if it failed the gate, or lacks its Bento or collection."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Deploy a packaged and indexed version as challenger, or as champion if there is none.

    While a test is running, the version waits in the queue (`immr experiment queue`) until that test has ended.

    Example: immr deploy --model immr-3
    """
    parts = parts_of(ctx)
    deployed = deploy_or_wait(parts, parts.registry.get(model), bento, share, force)
    report_deployed(parts, deployed, as_json)


def _kinds(queries: str) -> list[str]:
    kinds = [kind.strip() for kind in queries.split(",") if kind.strip()]
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise typer.BadParameter(f"{unknown[0]!r} is not a kind of query: choose from {','.join(KINDS)}")
    return kinds


def _show_metrics(
    title: str,
    metrics: Mapping[str, Estimate],
    kinds: Mapping[str, KindResult],
    as_csv: bool,
    parquet: Path | None,
    as_json: bool,
) -> None:
    """Print the metrics of the held-out photos, then those of each further kind of query."""
    results = {"": metrics, **{kind: result.intervals for kind, result in kinds.items()}}
    rows = [
        {"queries": kind, "metric": name, **asdict(interval)}
        for kind, intervals in results.items()
        for name, interval in intervals.items()
    ]
    if saved(
        lambda: of_records(rows, ("queries", "metric", "mean", "low", "high")), as_csv, parquet, as_json
    ):
        return
    if as_json:
        by_kind = {"kinds": {kind: asdict(result) for kind, result in kinds.items()}} if kinds else {}
        plain = {name: asdict(interval) for name, interval in metrics.items()}
        print_json({"what": title, "metrics": plain, **by_kind})
        return
    # a title of the table would be cut at its width
    console.print(title, markup=False, highlight=False, soft_wrap=True)
    table = Table()
    for column in ("metric", "mean", "95 % interval"):
        table.add_column(column)
    for row in rows:
        name = f"{row['queries']}: {row['metric']}" if row["queries"] else row["metric"]
        table.add_row(name, f"{row['mean']:.3f}", f"{row['low']:.3f} – {row['high']:.3f}")
    print_table(table)
