import random
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr.governance.classes import classes, numbered, same_things
from immr.governance.components import components, star_rounds
from immr.governance.engines.engine import connect
from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.workspace import Workspace

Rows = list[dict[str, Any]]
Table = Callable[[Rows], Any]


@pytest.fixture
def table(workspace: Workspace, tmp_path: Path) -> Table:
    def read(rows: Rows) -> Any:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
        return workspace.read(path)

    return read


def items(table: Table, **categories: str) -> Any:
    return table([{"item_id": name, "category": category} for name, category in categories.items()])


def shown(query: str, **clicked: bool) -> Rows:
    return [{"query_id": query, "item_id": name, "clicked": click} for name, click in clicked.items()]


def classes_of(workspace: Workspace, catalogue: Any, pairs: Any) -> dict[str, int]:
    rows = workspace.fetch(numbered(components(workspace, catalogue, pairs)), ["item_id"])
    return {row["item_id"]: row["class_id"] for row in rows}


def test_items_clicked_together_are_one_class_but_never_across_categories(
    workspace: Workspace, table: Table
) -> None:
    catalogue = items(table, a="Tea", b="Tea", c="Tea", d="Milk")
    log = [row for n in range(8) for row in shown(f"q{n}", a=True, b=True, c=n == 0, d=True)]
    pairs = same_things(workspace, catalogue, table(log), GovernanceRecipe())
    assert workspace.fetch(pairs, ["a"]) == [{"a": "a", "b": "b"}]
    assert classes_of(workspace, catalogue, pairs) == {"a": 0, "b": 0, "c": 1, "d": 2}


def test_a_few_chance_meetings_do_not_merge(workspace: Workspace, table: Table) -> None:
    catalogue = items(table, a="Tea", b="Tea")
    log = [row for n in range(3) for row in shown(f"q{n}", a=True, b=True)]
    assert not workspace.rows(same_things(workspace, catalogue, table(log), GovernanceRecipe()))
    log += [row for n in range(3, 30) for row in shown(f"q{n}", a=n % 2 == 0, b=n % 2 == 1)]
    assert not workspace.rows(same_things(workspace, catalogue, table(log), GovernanceRecipe()))


def test_rings_and_pairs_are_components(workspace: Workspace, table: Table) -> None:
    names = [f"i{(n * 7) % 11:02d}" for n in range(9)]  # so that neighbours are not neighbours by name
    catalogue = items(table, **dict.fromkeys([*names, "z1", "z2", "z3"], "Tea"))
    pairs = [
        {"a": min(x, y), "b": max(x, y)} for x, y in zip(names, names[1:] + names[:1], strict=True) if x != y
    ]
    pairs += [{"a": "z1", "b": "z3"}]
    found = classes_of(workspace, catalogue, table(pairs))
    assert {found[name] for name in names} == {0}
    assert (found["z1"], found["z2"], found["z3"]) == (1, 2, 1)


def test_an_item_that_nobody_saw_is_a_class_of_its_own(workspace: Workspace, table: Table) -> None:
    catalogue, log = items(table, a="Tea", b="Tea"), table(shown("q", a=True))
    found = workspace.fetch(classes(workspace, catalogue, log, GovernanceRecipe()), ["item_id"])
    assert {row["item_id"]: row["class_id"] for row in found} == {"a": 0, "b": 1}


@pytest.mark.parametrize("order", ["sorted", "shuffled"])
def test_a_long_chain_takes_few_rounds(tmp_path: Path, order: str) -> None:
    """Labels that travel along edges would take 999 rounds in the sorted chain."""
    names = [f"i{n:04d}" for n in range(1000)]
    if order == "shuffled":
        random.Random(0).shuffle(names)
    pairs = [{"a": min(pair), "b": max(pair)} for pair in pairwise(names)]
    pq.write_table(pa.Table.from_pylist(pairs), tmp_path / "pairs.parquet")
    with closing(connect("duckdb://")) as engine:
        work = Workspace(engine, tmp_path)
        stars, rounds = star_rounds(work, work.read(tmp_path / "pairs.parquet"))
        found = work.fetch(stars, ["node"])
    assert [row["node"] for row in found] == sorted(names)[1:]
    assert {row["centre"] for row in found} == {"i0000"}
    assert rounds <= 10
