from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from immr.governance.balance import ENOUGH, balanced
from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.workspace import Workspace

Table = Callable[[list[dict[str, Any]]], Any]
RECIPE = GovernanceRecipe(max_photos_per_class=3, balance_power=1.0)


def photos(**sizes: int) -> list[dict[str, Any]]:
    return [
        {"query_id": f"{name}{n}", "class_id": class_id, "weight": 1.0 if n else 0.5}
        for class_id, (name, size) in enumerate(sizes.items())
        for n in range(size)
    ]


def test_a_large_class_is_capped_and_loses_its_weakest_photos(workspace: Workspace, table: Table) -> None:
    rows = workspace.fetch(balanced(workspace, table(photos(large=5, small=1)), RECIPE), ["query_id"])
    dropped = {row["query_id"] for row in rows if row["reason"] == ENOUGH}
    assert len(dropped) == 2 and "large0" in dropped
    assert {row["reason"] for row in rows} == {"", ENOUGH}


def test_with_power_one_every_class_weighs_the_same(workspace: Workspace, table: Table) -> None:
    log = [{**row, "weight": 1.0} for row in photos(three=3, one=1)]
    rows = workspace.fetch(balanced(workspace, table(log), RECIPE), ["query_id"])
    weights = {
        class_id: sum(row["weight"] for row in rows if row["class_id"] == class_id) for class_id in (0, 1)
    }
    assert weights[0] == pytest.approx(weights[1], rel=1e-5) == pytest.approx(2.0, rel=1e-5)


def test_no_weight_exceeds_the_largest_factor(duckdb_workspace: Workspace, duckdb_table: Table) -> None:
    recipe = replace(RECIPE, max_photos_per_class=100, max_class_factor=1.5)
    log = [{**row, "weight": 1.0} for row in photos(many=50, one=1)]
    rows = duckdb_workspace.fetch(balanced(duckdb_workspace, duckdb_table(log), recipe), ["query_id"])
    assert max(row["weight"] for row in rows) == pytest.approx(1.5)
