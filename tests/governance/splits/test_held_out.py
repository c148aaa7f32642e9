import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.splits import held_out
from immr.governance.workspace import Workspace

RECIPE = GovernanceRecipe(held_out_share=0.2, held_out_near_share=0.1)
NAMES = sorted((f"u{n}" for n in range(20)), key=lambda name: hashlib.md5(name.encode()).hexdigest())
HELD, OTHERS = NAMES[:4], NAMES[4:]  # the split is by this hash


def users(held: list[bool]) -> list[str]:
    return [
        (HELD if held_out else OTHERS)[row % (4 if held_out else 16)] for row, held_out in enumerate(held)
    ]


def photos(users: list[str], days: list[float] | None = None) -> pa.Table:
    rows = len(users)
    start = datetime(2025, 1, 1, tzinfo=UTC)
    return pa.table(
        {
            "query_id": [f"q{n:05d}" for n in range(rows)],
            "user_id": users,
            "ts": [start + timedelta(days=day) for day in days or [0.0] * rows],
            "image_sha256": [f"{n:08x}" for n in range(rows)],
            "class_id": [0] * rows,
            "settled": [True] * rows,
        }
    )


def shots(scene_of: list[int]) -> np.ndarray:  # type: ignore[type-arg]
    rng = np.random.default_rng(0)
    scene = rng.standard_normal((max(scene_of) + 1, 32))
    return (scene[scene_of] + 0.05 * rng.standard_normal((len(scene_of), 32))).astype(np.float32)


def test_no_training_photo_is_a_neighbour_of_a_held_out_one() -> None:
    scene_of = [scene for scene in range(20) for _ in range(3)]
    held_user = [row % 3 == 0 and row < 30 for row in range(60)]  # the first shot of ten scenes
    found = held_out.sides(photos(users(held_user)), shots(scene_of), RECIPE)
    side = found.table["side"].to_pylist()
    assert found.days_after is None and "on the same days" in found.when
    judged = {scene_of[row] for row in range(60) if side[row] == held_out.HELD_OUT}
    learned = {scene_of[row] for row in range(60) if side[row] == ""}
    assert judged and not judged & learned
    assert side.count(held_out.NEAR_HELD_OUT) <= 6
    assert all(
        side[row] in (held_out.HELD_OUT, held_out.USER_HELD_OUT) for row in range(60) if held_user[row]
    )


def test_without_embeddings_only_identical_photos_are_neighbours() -> None:
    table = photos(users([True, False, False] + [row < 3 for row in range(20)]))
    sha = table.column_names.index("image_sha256")
    table = table.set_column(sha, "image_sha256", pa.array(["a", "a", *(f"b{n}" for n in range(21))]))
    side = held_out.sides(table, None, RECIPE).table["side"].to_pylist()
    assert side[:3] == [held_out.HELD_OUT, held_out.NEAR_HELD_OUT, ""]


def test_held_out_photos_come_after_a_gap_where_the_log_allows_it() -> None:
    rng = np.random.default_rng(0)
    days = np.sort(rng.uniform(0, 100, 6000)).tolist()
    names = [f"u{int(day) // 4}-{rng.integers(40)}" for day in days]  # most users come for a few days
    names[::5] = [f"regular-{rng.integers(200)}" for _ in names[::5]]
    recipe = GovernanceRecipe(held_out_gap_days=2.0)
    found = held_out.sides(photos(names, days), None, recipe)
    side = np.array(found.table["side"].to_pylist())
    held, kept = side == held_out.HELD_OUT, side == ""
    when, who = np.array(days), np.array(names)
    assert held.sum() >= 300 and kept.sum() >= 0.75 * len(side)
    assert when[held].min() - when[kept].max() >= 2
    assert not set(who[held]) & set(who[kept])
    assert any(name.startswith("regular") for name in who[held]), "not new users alone"
    assert found.days_after == (
        round(when[held].min() - when[kept].max(), 2),
        round(when[held].max() - when[kept].max(), 2),
    )
    assert found.when == "2.1 to 9.1 days after the last training photo"


def test_every_engine_gives_the_same_split(
    workspace: Workspace, table: Callable[[list[dict[str, Any]]], Any]
) -> None:
    days = np.random.default_rng(1).uniform(0, 60, 4000).tolist()
    there = photos([f"u{row // 2}" for row in range(4000)], days)
    here = workspace.table(table(there.to_pylist()), ["query_id"])
    expected, found = (held_out.sides(each, None, GovernanceRecipe()) for each in (there, here))
    assert expected.days_after is not None and found == expected


def test_a_class_whose_photos_all_look_alike_keeps_its_training_photos() -> None:
    held_user = [row % 5 == 0 for row in range(60)]
    table = photos(users(held_user))
    classes = table.column_names.index("class_id")
    table = table.set_column(classes, "class_id", pa.array([0] * 5 + [1] * 55))
    features = shots([0] * 5 + list(range(1, 56)))
    features[:5] = features[0]
    recipe = GovernanceRecipe(held_out_share=0.2, held_out_near_share=0.1)
    side = held_out.sides(table, features, recipe).table["side"].to_pylist()
    assert side[0] == held_out.USER_HELD_OUT and side[1:5] == [""] * 4
    assert held_out.HELD_OUT in side
