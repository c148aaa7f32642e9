from collections.abc import Callable
from typing import Any

from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.splits.split import unseen_classes, verdicts
from immr.governance.workspace import Workspace

Table = Callable[[list[dict[str, Any]]], Any]


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
