from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from immr.governance.classes import components, numbered, same_things
from immr.governance.engine import connect
from immr.governance.recipe import GovernanceRecipe
from immr.governance.workspace import Workspace

Rows = list[dict[str, Any]]
Table = Callable[[Rows], Any]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(connect("duckdb://"), tmp_path)


@pytest.fixture
def table(workspace: Workspace, tmp_path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

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
    pairs = same_things(catalogue, table(log), GovernanceRecipe())
    assert workspace.fetch(pairs, ["a"]) == [{"a": "a", "b": "b"}]
    assert classes_of(workspace, catalogue, pairs) == {"a": 0, "b": 0, "c": 1, "d": 2}


def test_a_few_chance_meetings_do_not_merge(workspace: Workspace, table: Table) -> None:
    catalogue = items(table, a="Tea", b="Tea")
    log = [row for n in range(3) for row in shown(f"q{n}", a=True, b=True)]
    assert not workspace.rows(same_things(catalogue, table(log), GovernanceRecipe()))
    log += [row for n in range(3, 30) for row in shown(f"q{n}", a=n % 2 == 0, b=n % 2 == 1)]
    assert not workspace.rows(same_things(catalogue, table(log), GovernanceRecipe()))


@pytest.mark.parametrize("length", [2, 9, 40])
def test_chains_and_rings_are_one_component(workspace: Workspace, table: Table, length: int) -> None:
    names = [f"i{(n * 7) % 41:02d}" for n in range(length)]  # so that neighbours are not neighbours by name
    catalogue = items(table, **dict.fromkeys([*names, "z1", "z2", "z3"], "Tea"))
    pairs = [
        {"a": min(x, y), "b": max(x, y)} for x, y in zip(names, names[1:] + names[:1], strict=True) if x != y
    ]
    pairs += [{"a": "z1", "b": "z3"}]
    found = classes_of(workspace, catalogue, table(pairs))
    assert {found[name] for name in names} == {0}
    assert (found["z1"], found["z2"], found["z3"]) == (1, 2, 1)


def test_an_item_that_nobody_saw_is_a_class_of_its_own(workspace: Workspace, table: Table) -> None:
    catalogue = items(table, a="Tea", b="Tea")
    pairs = same_things(catalogue, table(shown("q", a=True)), GovernanceRecipe())
    assert classes_of(workspace, catalogue, pairs) == {"a": 0, "b": 1}
