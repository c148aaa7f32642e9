from collections.abc import Callable
from typing import Any

import pytest

from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.splits.split import held_out_users, unseen_classes, verdicts
from immr.governance.workspace import Workspace

Table = Callable[[list[dict[str, Any]]], Any]


@pytest.mark.parametrize(("users", "share", "held"), [(10, 0.2, 2), (10, 0.01, 1), (10, 0.0, 0), (1, 0.5, 0)])
def test_a_share_of_users_is_held_out_but_never_all(
    workspace: Workspace, table: Table, users: int, share: float, held: int
) -> None:
    log = table([{"user_id": f"u{n}", "query_id": f"q{n}{m}"} for n in range(users) for m in range(2)])
    recipe = GovernanceRecipe(held_out_share=share)
    assert workspace.rows(held_out_users(workspace, log, recipe)) == held


def test_new_users_rarely_change_the_side_of_others(duckdb_workspace: Workspace, duckdb_table: Table) -> None:
    recipe = GovernanceRecipe(held_out_share=0.2)

    def held(users: int) -> set[str]:
        log = duckdb_table([{"user_id": f"u{n}"} for n in range(users)])
        chosen = held_out_users(duckdb_workspace, log, recipe)
        return {row["user_id"] for row in duckdb_workspace.fetch(chosen, ["user_id"])}

    assert len(held(50) & held(55)) >= 8


@pytest.mark.parametrize("users", [2, 40])
def test_a_device_that_many_shoppers_share_is_not_held_out(
    duckdb_workspace: Workspace, duckdb_table: Table, users: int
) -> None:
    """Whatever its id: with 40 users, about four of 40 ids would be chosen by their hash."""
    recipe = GovernanceRecipe(held_out_share=0.1)
    for shared in range(users):
        log = duckdb_table(
            [{"user_id": f"u{n}"} for n in range(users) for _ in range(30 if n == shared else 1)]
        )
        chosen = duckdb_workspace.fetch(held_out_users(duckdb_workspace, log, recipe), ["user_id"])
        assert chosen and f"u{shared}" not in [row["user_id"] for row in chosen]


def test_at_least_one_class_is_left_for_training(workspace: Workspace, table: Table) -> None:
    items = table([{"item_id": f"i{n}", "class_id": n} for n in range(4)])
    assert workspace.rows(unseen_classes(workspace, items, GovernanceRecipe(unseen_class_share=0.9))) == 3
    assert workspace.rows(unseen_classes(workspace, items, GovernanceRecipe(unseen_class_share=0.3))) == 2


def test_a_photo_that_is_set_aside_has_a_reason(workspace: Workspace, table: Table) -> None:
    labelled = table(
        [
            {"query_id": f"q{n}", "image_sha256": sha, "class_id": n}
            for n, sha in enumerate(["a", "b", "", "d"])
        ]
    )
    judgements = table([{"image_sha256": "b"}, {"image_sha256": ""}])
    sides = table([{"query_id": f"q{n}", "side": "held out" if n == 3 else ""} for n in range(4)])
    unseen = table([{"class_id": 0}])
    found = workspace.fetch(verdicts(labelled, judgements, sides, unseen), ["query_id"])
    assert [row["reason"] for row in found] == [
        "its class is held out as unseen",
        "same photo as a judgement",
        "",
        "held out",
    ]
    without_sides = workspace.fetch(verdicts(labelled, judgements, None, unseen), ["query_id"])
    assert without_sides[3]["reason"] == ""
