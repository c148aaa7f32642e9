"""Does one user with many queries join items that are not the same thing?

    python -m benchmarks.governance reseller

A simulated log of grocery, in which a quarter of the items have a second offer. A reseller then searches 120 times:
for twelve pairs of items of one category, ten times each, and clicks both. Pairs of items that share a class are
compared with the pairs that are one thing, where each user counts once and where each query does.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from immr.data.contract import IMPRESSIONS, QUERIES
from immr.datasets.named import load_dataset
from immr.datasets.simulation import simulate
from immr.datasets.simulation_recipe import category_noise, symmetric_noise
from immr.governance.engines.engine import connect
from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.graph.classes import classes
from immr.governance.workspace import Workspace
from immr.settings import Settings

PAIRS, QUERIES_OF_EACH, SHOWN = 12, 10, 10
NOISE = {"symmetric": symmetric_noise, "category": category_noise}


def reseller() -> None:
    """Precision and recall of grouped items, with and without a user who always clicks two items."""
    settings = Settings()
    labelled = load_dataset("grocery", settings.data_mirror, settings.cache_dir)
    table = Table("wrong clicks", "reseller", "each query counts", "each user counts", title="grouped items")
    for kind, noise in NOISE.items():
        for wrong in (0.0, 0.2, 0.4):
            with TemporaryDirectory() as folder:
                log = Path(folder)
                simulate(labelled, log / "log", replace(noise(wrong), twin_items=0.25))
                for there in ("no", "yes"):
                    cells = [_measured(log / "log", by_user) for by_user in (False, True)]
                    table.add_row(f"{wrong:.0%} {kind}", there, *cells)
                    _with_reseller(log / "log")
    Console().print(table)


def _measured(log: Path, by_user: bool) -> str:
    """Precision and recall of the pairs."""
    with TemporaryDirectory() as folder, closing(connect("duckdb://")) as engine:
        workspace = Workspace(engine, Path(folder))
        queries = workspace.read(log / "queries.parquet")
        if not by_user:
            queries = queries.mutate(user_id=queries.query_id)
        tables = (workspace.read(log / f"{name}.parquet") for name in ("items", "impressions"))
        found = classes(workspace, *tables, queries, GovernanceRecipe())
        rows = workspace.fetch(found, ["item_id"])
    members: dict[int, list[str]] = {}
    for row in rows:
        members.setdefault(row["class_id"], []).append(row["item_id"])
    grouped = {frozenset(pair) for items in members.values() for pair in combinations(items, 2)}
    twins = pq.read_table(log / "twins.parquet").to_pylist()
    same = {frozenset((row["item_id"], row["twin_of"])) for row in twins}
    return f"{len(grouped & same) / max(len(grouped), 1):.3f} / {len(grouped & same) / len(same):.3f}"


def _with_reseller(log: Path) -> None:
    """Add the reseller's queries to the log."""
    items = pq.read_table(log / "items.parquet", columns=["item_id", "category"]).to_pandas()
    rng = np.random.default_rng(5)
    categories = [group for _, group in items.groupby("category").item_id if len(group) >= 4]
    queries: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    first = pq.read_table(log / "queries.parquet").slice(0, 1).to_pylist()[0]
    for number in range(PAIRS):
        pair = rng.choice(categories[rng.integers(len(categories))], 2, replace=False)
        others = rng.choice(items.item_id, SHOWN - 2, replace=False)
        for turn in range(QUERIES_OF_EACH):
            queries.append(first | {"query_id": f"reseller-{number}-{turn}", "user_id": "reseller"})
            about = {"query_id": queries[-1]["query_id"], "ts": first["ts"], "ordered": False}
            about |= {"variant": "control", "model_version": "former-search"}
            for place, item in enumerate(pd.unique(np.concatenate([pair, others]))):
                row = {"item_id": str(item), "position": place + 1, "clicked": bool(item in pair)}
                shown.append(about | row)
    for contract, rows in ((QUERIES, queries), (IMPRESSIONS, shown)):
        path = log / f"{contract.name}.parquet"
        added = pa.Table.from_pylist(rows, schema=contract.columns)
        pq.write_table(pa.concat_tables([pq.read_table(path, schema=contract.columns), added]), path)
