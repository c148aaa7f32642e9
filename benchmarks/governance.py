"""How clean governance makes a noisy click log, what that is worth to a model, and how fast tables go.

    python -m benchmarks.governance labels --json labels.json            # grocery, noise 0 / 20 / 40 %
    python -m benchmarks.governance labels --level 0.4 --train           # and recall@1 of models
    python -m benchmarks.governance scale --rows 1000000 --rows 10000000 # and --rows 100000000

labels: a simulated log with known truth, governed with nothing, with clicks only, and with looks as well.
`precision` is the share of labels that are right; `kept` the share of queries with a right click that end
with the right label (a few more come back by their looks, so that `right` may exceed it). Wrong clicks go to
items drawn evenly from the whole catalogue, or with --in-category to the right one's neighbours.

scale: rows of impressions through governance's table steps (edges, verdicts, grouping, split, balance) in a
process of its own; checking the contract and looking at pictures are not in it.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from immr import judging, recipes, steps
from immr.data import datasets
from immr.data.simulate import SimulationRecipe, simulate
from immr.data.training_set import TrainingSet
from immr.governance.recipe import GovernanceRecipe
from immr.settings import Settings

app = typer.Typer(help=__doc__, no_args_is_help=True)
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the figures here.")]
CLICKS = replace(GovernanceRecipe(), clean_labels=False)
GOVERNANCE = {
    "none": replace(
        CLICKS,
        min_share=0.0,
        min_share_lower_bound=0.0,
        position_bias=0.0,
        order_weight=1.0,
        group_items=False,
    ),
    "clicks": CLICKS,
    "clicks and looks": GovernanceRecipe(),
}


@dataclass
class Labels:
    noise: float
    governance: str
    queries: int
    right: int
    precision: float
    kept: float
    recall_at_1: float | None = None


@app.command()
def labels(
    level: Annotated[list[float] | None, typer.Option(help="Share of wrong clicks.")] = None,
    in_category: Annotated[bool, typer.Option(help="Wrong clicks stay in the category.")] = False,
    dataset: str = "grocery",
    train: Annotated[bool, typer.Option(help="Train `concept` on each, and on clean data; minutes.")] = False,
    epochs: Annotated[int, typer.Option(help="Of those trainings; 0: as the recipe has it.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Precision and recall of cleaned labels by noise level."""
    found = []
    levels = level or [0.0, 0.2, 0.4]
    if train and 0.0 not in levels:
        levels = [0.0, *levels]
    for noise in levels:
        for name in GOVERNANCE:
            wanted = train and (noise or name == "none")
            found.append(_labels(noise, name, in_category, dataset, epochs if wanted else None))
    table = Table(title=f"labels, {dataset}" + (", wrong clicks in the category" if in_category else ""))
    for column in ("noise", "governance", "queries", "right", "precision", "kept", "recall@1"):
        table.add_column(column)
    for one in found:
        recall = "" if one.recall_at_1 is None else f"{one.recall_at_1:.3f}"
        figures = f"{one.precision:.4f}", f"{one.kept:.4f}", recall
        table.add_row(f"{one.noise:.0%}", one.governance, str(one.queries), str(one.right), *figures)
    Console().print(table)
    if json_file:
        json_file.write_text(json.dumps({"labels": [asdict(one) for one in found], **_keys(found)}, indent=1))


def _keys(found: list[Labels]) -> dict[str, float]:
    by_name = {(one.noise, one.governance): one for one in found}
    governed, ungoverned = by_name.get((0.4, "clicks and looks")), by_name.get((0.4, "none"))
    clean = by_name.get((0.0, "none"))
    keys = {}
    if governed and ungoverned:
        keys |= {"label_precision_at_40": governed.precision, "kept_share_at_40": governed.kept}
        if clean and clean.recall_at_1 and governed.recall_at_1 and ungoverned.recall_at_1:
            keys["recall_at_1_vs_clean_at_40"] = governed.recall_at_1 / clean.recall_at_1
            keys["recall_at_1_ungoverned_vs_clean_at_40"] = ungoverned.recall_at_1 / clean.recall_at_1
    return keys


def _labels(noise: float, name: str, in_category: bool, dataset: str, epochs: int | None) -> Labels:
    import pyarrow.parquet as pq

    settings = Settings()
    labelled = datasets.load(dataset, settings.data_mirror, settings.cache_dir)
    recipe = replace(recipes.by_name("concept"), governance=GOVERNANCE[name])
    shoppers = SimulationRecipe(
        wrong_clicks=noise, wrong_in_category=in_category, within_category_share=float(in_category)
    )
    if not in_category:
        shoppers = replace(shoppers, popularity_skew=0.0)
    with TemporaryDirectory() as scratch:
        log = settings.work_dir / "benchmark-logs" / f"{dataset}-{noise}-{in_category}"
        simulate(labelled, log, shoppers)
        training_set = steps.govern(settings, log, recipe, Path(scratch) / "set")
        truth = pq.read_table(log / "truth.parquet").rename_columns(["query_id", "truth"]).to_pandas()
        clicks = pq.read_table(log / "impressions.parquet").to_pandas().query("clicked")
        clicks = clicks.merge(truth, on="query_id")
        clicked_right = set(clicks[clicks.item_id == clicks.truth].query_id)
        queries = pq.read_table(training_set.folder / "queries.parquet").to_pandas()
        queries = queries.merge(truth, on="query_id")
        right = queries[queries.item_id == queries.truth]
        recall = None if epochs is None else _recall_at_1(settings, training_set, recipe, dataset, epochs)
    kept = right.query_id.isin(clicked_right).sum() / len(clicked_right)
    return Labels(noise, name, len(queries), len(right), len(right) / len(queries), float(kept), recall)


def _recall_at_1(
    settings: Settings, training_set: TrainingSet, recipe: recipes.Recipe, dataset: str, epochs: int
) -> float:
    if epochs:
        recipe = replace(recipe, train=replace(recipe.train, epochs=epochs))
    version = steps.train(settings, training_set, recipe)
    return float(judging.evaluate_dataset(settings, version, dataset, "val", recipe).means()["recall@1"])


@app.command()
def scale(
    rows: Annotated[list[int] | None, typer.Option(help="Rows of impressions.")] = None,
    engine: Annotated[str, typer.Option(help="Engine URL.")] = "duckdb://",
    json_file: JsonFile = None,
) -> None:
    """Rows a second and memory by size of the log."""
    found = []
    for size in rows or [1_000_000, 10_000_000]:
        command = [sys.executable, "-m", "benchmarks.governance", "one-size", str(size), "--engine", engine]
        found.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    table = Table(title="governance's tables")
    for column in ("rows", "seconds", "rows/s", "peak GiB", "queries out", "classes"):
        table.add_column(column, justify="right")
    for one in found:
        table.add_row(
            f"{one['rows']:,}",
            f"{one['seconds']:.1f}",
            f"{one['rows'] / one['seconds']:,.0f}",
            f"{one['peak_gib']:.2f}",
            f"{one['queries']:,}",
            f"{one['classes']:,}",
        )
    Console().print(table)
    if json_file:
        by_size = {str(one["rows"]): one["rows"] / one["seconds"] for one in found}
        json_file.write_text(json.dumps({"rows_per_s": by_size, "scale": found}, indent=1))


@app.command(hidden=True)
def one_size(rows: int, engine: str = "duckdb://") -> None:
    """One size, measured in this process."""
    from immr.governance import balance, classes, edges, split
    from immr.governance.engine import connect
    from immr.governance.workspace import Workspace

    recipe = replace(CLICKS, balance_classes=True)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _log(rows, folder)
        began = time.perf_counter()
        work = Workspace(connect(engine), folder)
        items, queries, impressions = (
            work.read(folder / f"{name}.parquet") for name in ("items", "queries", "impressions")
        )
        clicked = work.keep(edges.edges(impressions, recipe))
        judged = work.keep(edges.verdicts(queries, edges.best_items(clicked), recipe))
        labels = classes.components(work, items, classes.same_things(items, impressions, recipe))
        item_classes = work.keep(classes.numbered(labels))
        labelled = work.keep(judged.filter(judged.reason == "").drop("reason").join(item_classes, "item_id"))
        unseen = split.unseen_classes(work, item_classes, recipe)
        held = work.keep(split.newest_of_some_users(work, labelled, recipe))
        apart = work.keep(split.verdicts(labelled, held, held, unseen))
        kept = apart.filter(apart.reason == "").drop("reason")
        weighed = work.keep(balance.balanced(work, kept, recipe))
        count = work.rows(weighed.filter(weighed.reason == ""))
        seconds = time.perf_counter() - began
        class_count = work.rows(item_classes.select("class_id").distinct())
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        json.dumps(
            {
                "rows": rows,
                "seconds": seconds,
                "peak_gib": peak_gib,
                "queries": count,
                "classes": class_count,
            }
        )
    )


def _log(rows: int, folder: Path) -> None:
    """Lists of eight items of one category, the right one among them; made in DuckDB, from hashes."""
    import duckdb

    queries, items = rows // 8, max(rows // 800, 100) * 20
    with duckdb.connect() as made:
        made.execute("SET preserve_insertion_order = false")
        made.execute(
            f"COPY (SELECT 'i' || i AS item_id, 'c' || i // 20 AS category FROM range({items}) t(i)) "
            f"TO '{folder}/items.parquet'"
        )
        made.execute(
            "COPY (SELECT 'q' || q AS query_id, 'u' || hash(q) % 100000 AS user_id, "
            "TIMESTAMP '2026-01-01' + to_seconds((hash(q) % 2419200)::BIGINT) AS ts, 'p' || q "
            f"AS image_sha256 FROM range({queries}) t(q)) TO '{folder}/queries.parquet'"
        )
        made.execute(
            f"""
            COPY (
                SELECT 'q' || q AS query_id,
                    'i' || (home // 20 * 20 + (home % 20 + 3 * k) % 20) AS item_id,
                    1 + (k + turn) % 8 AS position,
                    chance < CASE WHEN k = 0 THEN 0.8 ELSE 0.03 END AS clicked,
                    k = 0 AND chance < 0.25 AS ordered
                FROM (
                    SELECT q, k, hash(q + 1) % {items} AS home, hash(q + 2) % 8 AS turn,
                        hash(8 * q + k) % 1000000 / 1e6 AS chance
                    FROM range({queries}) t(q), range(8) s(k)
                )
            ) TO '{folder}/impressions.parquet'
            """
        )


if __name__ == "__main__":
    app()
