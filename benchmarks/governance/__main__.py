"""How clean governance makes a noisy click log, what that is worth to a model, and how fast it goes.

    python -m benchmarks.governance --world all --json worlds.json  # see label_cleaning.py
    python -m benchmarks.governance labels --json labels.json    # grocery, noise 0 / 20 / 40 %, both kinds
    python -m benchmarks.governance labels --train 0.4 --json ...  # and recall@1 of models at 40 %
    python -m benchmarks.governance reseller                     # grouped items with a user of many queries
    python -m benchmarks.governance scale --rows 1000000 --rows 10000000 --rows 100000000 --json scale.json

labels: a simulated log with known truth, in which a quarter of the items have a second offer, governed with
nothing, with everything, and with everything but one step. `precision` is the share of labels that are right
(either offer of the thing is); `kept` the share of queries with a right click that end with a right label;
`grouping` precision and recall of pairs of items that share a class, against pairs that are one thing.
Wrong clicks go evenly to all other items (symmetric), or to the right one's neighbours (category).
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.figures import JsonFile, write_figures
from benchmarks.governance import heavy_user, label_cleaning, scale
from immr import recipes
from immr.data.training_set import TrainingSet
from immr.datasets.named import load_dataset
from immr.datasets.simulation import simulate
from immr.datasets.simulation_recipe import category_noise, symmetric_noise
from immr.governance.governance_recipe import GovernanceRecipe
from immr.loop.evaluate import evaluate_dataset
from immr.loop.govern import govern
from immr.loop.train import train
from immr.settings import Settings
from immr.wiring import Parts, connect

app = typer.Typer(help=__doc__)
ALL = GovernanceRecipe()
WITHOUT_EDGES: dict[str, float] = {
    "min_share": 0.0,
    "order_weight": 1.0,
}
GOVERNANCE = {
    "none": replace(ALL, group_items=False, clean_labels=False, **WITHOUT_EDGES),
    "all": ALL,
    "all but edges": replace(ALL, **WITHOUT_EDGES),
    "all but grouping": replace(ALL, group_items=False),
    "all but appearance": replace(ALL, clean_labels=False),
    "all and balance": replace(ALL, balance_classes=True),
}
NOISE = {"symmetric": symmetric_noise, "category": category_noise}
TWINS = 0.25


@app.callback(invoke_without_command=True)
def worlds(
    context: typer.Context,
    world: Annotated[str, typer.Option(help="One of benchmarks/governance/label_errors.py, or all.")] = "all",
    dataset: Annotated[str, typer.Option(help="grocery, or icons.")] = "grocery",
    json_file: JsonFile = None,
) -> None:
    """Errors that are not spread evenly: swaps, retakes, Zipf tails, and an honest held-out split."""
    if context.invoked_subcommand is None:
        label_cleaning.run(world, json_file, dataset)


@dataclass
class Labels:
    """One row of the table."""

    kind: str
    noise: float
    governance: str
    queries: int
    precision: float
    kept: float
    grouping_precision: float | None
    grouping_recall: float
    recall_at_1: float | None = None


@app.command()
def labels(
    level: Annotated[list[float] | None, typer.Option(help="Share of wrong clicks.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="symmetric, category.")] = None,
    dataset: str = "grocery",
    train: Annotated[list[float] | None, typer.Option(help="Levels at which models are trained.")] = None,
    recipe: Annotated[str, typer.Option(help="Whose models those are.")] = "concept",
    json_file: JsonFile = None,
) -> None:
    """Precision and recall of cleaned labels by noise level, and what they are worth to a model."""
    found = []
    trained = {0.0, *train} if train else set()
    for one_kind in kind or list(NOISE):
        for noise in level or [0.0, 0.2, 0.4]:
            for name in GOVERNANCE if noise else ("none", "all"):
                wanted = recipe if noise in trained else None
                found.append(_labels(one_kind, noise, name, dataset, wanted))
                print(json.dumps(asdict(found[-1])), file=sys.stderr)
    table = Table(title=f"labels, {dataset}, {TWINS:.0%} of items with a second offer")
    columns = "wrong clicks", "governance", "queries", "precision", "kept", "grouping", "recall@1"
    for column in columns:
        table.add_column(column)
    for one in found:
        grouping = f"{_figure(one.grouping_precision)} / {one.grouping_recall:.3f}"
        figures = f"{one.precision:.3f}", f"{one.kept:.3f}", grouping, _figure(one.recall_at_1)
        table.add_row(f"{one.noise:.0%} {one.kind}", one.governance, str(one.queries), *figures)
    Console().print(table)
    write_figures(json_file, {"labels": [asdict(one) for one in found], **_keys(found)})


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _keys(found: list[Labels]) -> dict[str, float]:
    by_name = {(one.noise, one.governance): one for one in found if one.kind == "symmetric"}
    governed, ungoverned = by_name.get((0.4, "all")), by_name.get((0.4, "none"))
    clean = max((one.recall_at_1 or 0.0 for one in found if not one.noise), default=0.0)
    keys = {}
    if governed and ungoverned:
        keys |= {"label_precision_at_40": governed.precision, "kept_share_at_40": governed.kept}
        if clean and governed.recall_at_1 and ungoverned.recall_at_1:
            keys["recall_at_1_vs_clean_at_40"] = governed.recall_at_1 / clean
            keys["recall_at_1_ungoverned_vs_clean_at_40"] = ungoverned.recall_at_1 / clean
    return keys


def _labels(kind: str, noise: float, name: str, dataset: str, trained: str | None) -> Labels:
    import pandas as pd

    settings = Settings()
    labelled = load_dataset(dataset, settings.data_mirror, settings.cache_dir)
    recipe = replace(recipes.by_name(trained or "concept"), governance=GOVERNANCE[name])
    with TemporaryDirectory() as scratch:
        log = settings.work_dir / "benchmark-logs" / f"{dataset}-{kind}-{noise}"
        simulate(labelled, log, replace(NOISE[kind](noise), twin_items=TWINS))
        training_set = govern(connect(settings), log, recipe, Path(scratch) / "set")
        twins = pd.read_parquet(log / "twins.parquet")
        thing = dict(zip(twins.item_id, twins.twin_of, strict=True))
        truth = pd.read_parquet(log / "truth.parquet").rename(columns={"item_id": "truth"})
        clicks = pd.read_parquet(log / "impressions.parquet").query("clicked").merge(truth, on="query_id")
        clicked_right = set(clicks[clicks.item_id.replace(thing) == clicks.truth].query_id)
        queries = pd.read_parquet(training_set.folder / "queries.parquet").merge(truth, on="query_id")
        right = queries[queries.item_id.replace(thing) == queries.truth]
        grouped = _pairs(
            dict(zip((i.item_id for i in training_set.items), training_set.item_classes, strict=True))
        )
        same = {frozenset(pair) for pair in thing.items()}
        recall = None if trained is None else _recall_at_1(connect(settings), training_set, recipe, dataset)
    return Labels(
        kind,
        noise,
        name,
        len(queries),
        len(right) / len(queries),
        float(right.query_id.isin(clicked_right).sum() / len(clicked_right)),
        len(grouped & same) / len(grouped) if grouped else None,
        len(grouped & same) / len(same),
        recall,
    )


def _pairs(class_of: dict[str, int]) -> set[frozenset[str]]:
    """Pairs of items that share a class."""
    members: dict[int, list[str]] = {}
    for item_id, class_id in class_of.items():
        members.setdefault(class_id, []).append(item_id)
    return {frozenset(pair) for items in members.values() for pair in combinations(items, 2)}


def _recall_at_1(parts: Parts, training_set: TrainingSet, recipe: recipes.Recipe, dataset: str) -> float:
    version = train(parts, training_set, recipe)
    evaluation, _ = evaluate_dataset(parts, version, dataset, "val", recipe)
    return float(evaluation.means()["recall@1"])


app.command()(heavy_user.reseller)
app.command()(scale.scale)
app.command(hidden=True)(scale.one_size)


if __name__ == "__main__":
    app()
