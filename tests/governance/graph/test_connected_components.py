import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from immr.governance.graph.connected_components import components, star_rounds
from immr.governance.workspace import Workspace

Table = Callable[[list[dict[str, Any]]], Any]


def labels_of(workspace: Workspace, found: Any) -> dict[str, str]:
    return {row["item_id"]: row["label"] for row in workspace.fetch(found, ["item_id"])}


def test_rings_and_pairs_are_components(workspace: Workspace, table: Table) -> None:
    names = [
        f"i{(n * 7) % 11:02d}" for n in range(9)
    ]  # shuffled, so that the order of ids says nothing about neighbours
    catalogue = table([{"item_id": name} for name in [*names, "z1", "z2", "z3"]])
    pairs = [{"a": min(x, y), "b": max(x, y)} for x, y in zip(names, names[1:] + names[:1], strict=True)]
    pairs += [{"a": "z1", "b": "z3"}]
    found = labels_of(workspace, components(workspace, catalogue, table(pairs)))
    assert {found[name] for name in names} == {min(names)}
    assert (found["z1"], found["z2"], found["z3"]) == ("z1", "z2", "z1")


@pytest.mark.parametrize("order", ["sorted", "shuffled"])
def test_a_long_chain_takes_few_rounds(duckdb_workspace: Workspace, duckdb_table: Table, order: str) -> None:
    """Label propagation would take 999 rounds in the sorted chain."""
    names = [f"i{n:04d}" for n in range(1000)]
    if order == "shuffled":
        random.Random(0).shuffle(names)
    pairs = duckdb_table([{"a": min(pair), "b": max(pair)} for pair in pairwise(names)])
    stars, rounds = star_rounds(duckdb_workspace, pairs)
    found = duckdb_workspace.fetch(stars, ["node"])
    assert [row["node"] for row in found] == sorted(names)[1:]
    assert {row["centre"] for row in found} == {"i0000"}
    assert rounds <= 10
