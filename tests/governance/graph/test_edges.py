from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.graph.edges import best_items, edges, verdicts
from immr.governance.workspace import Workspace

RECIPE = GovernanceRecipe(order_weight=3.0)


def impression(
    query: str, item: str, position: int, clicked: bool = True, ordered: bool = False
) -> dict[str, Any]:
    return {"query_id": query, "item_id": item, "position": position, "clicked": clicked, "ordered": ordered}


LOG = [
    impression("alone", "a", 1),
    impression("alone", "b", 2, clicked=False),
    impression("deep", "a", 1),
    impression("deep", "b", 4),
    impression("order", "a", 1, ordered=True),
    impression("order", "b", 2),
    impression("tie", "b", 2),
    impression("tie", "a", 2),
    impression("bottom", "a", 100),
    impression("silent", "a", 1, clicked=False),
]


def alone(clicks: Any) -> Any:
    """Each item as its own class."""
    return clicks.mutate(class_id=clicks.item_id)


def read(workspace: Workspace, path: Path, rows: list[dict[str, Any]]) -> Any:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return workspace.read(path)


def test_orders_that_weigh_nothing_label_nothing(workspace: Workspace, tmp_path: Path) -> None:
    log = read(workspace, tmp_path / "log.parquet", [impression("order", "a", 1, ordered=True)])
    found = best_items(alone(edges(log, GovernanceRecipe(order_weight=0))))
    assert workspace.fetch(found, ["query_id"]) == []


def test_clicks_of_a_query_weigh_the_same_and_orders_more(workspace: Workspace, tmp_path: Path) -> None:
    log = read(workspace, tmp_path / "log.parquet", LOG)
    found = workspace.fetch(edges(log, RECIPE), ["query_id", "item_id"])
    weights = {(row["query_id"], row["item_id"]): row["weight"] for row in found}
    assert weights == {
        ("alone", "a"): 1,
        ("bottom", "a"): 1,
        ("deep", "a"): 1,
        ("deep", "b"): 1,
        ("order", "a"): 3,
        ("order", "b"): 1,
        ("tie", "a"): 1,
        ("tie", "b"): 1,
    }


def test_the_best_item_has_most_evidence(workspace: Workspace, tmp_path: Path) -> None:
    log = read(workspace, tmp_path / "log.parquet", LOG)
    found = {
        row["query_id"]: row for row in workspace.fetch(best_items(alone(edges(log, RECIPE))), ["query_id"])
    }
    assert {query: row["item_id"] for query, row in found.items()} == {
        "alone": "a",
        "bottom": "a",
        "deep": "a",
        "order": "a",
        "tie": "a",
    }
    assert found["deep"]["share"] == pytest.approx(0.5)
    assert found["order"]["share"] == pytest.approx(0.75)
    assert found["alone"]["weight"] == pytest.approx(0.75)
    assert found["order"]["weight"] > found["tie"]["weight"]


def test_queries_without_a_clear_item_have_a_reason(workspace: Workspace, tmp_path: Path) -> None:
    log = read(workspace, tmp_path / "log.parquet", LOG)
    names = sorted({row["query_id"] for row in LOG})
    queries = read(workspace, tmp_path / "queries.parquet", [{"query_id": name} for name in names])
    judged = verdicts(queries, best_items(alone(edges(log, RECIPE))), RECIPE)
    assert {row["query_id"]: row["reason"] for row in workspace.fetch(judged, ["query_id"])} == {
        "alone": "",
        "bottom": "",
        "deep": "clicks disagree about the item",
        "order": "",
        "silent": "no click on a valid item",
        "tie": "clicks disagree about the item",
    }


def test_two_offers_of_one_product_do_not_disagree(workspace: Workspace, tmp_path: Path) -> None:
    log = read(workspace, tmp_path / "log.parquet", LOG)
    clicks = edges(log, RECIPE)
    found = workspace.fetch(best_items(clicks.mutate(class_id=1)), ["query_id"])
    assert all(row["share"] == 1 for row in found)
    assert {row["query_id"]: row["item_id"] for row in found}["deep"] == "a"
