from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.splits import held_out

RECIPE = GovernanceRecipe(held_out_near_share=0.1)


def photos(held_user: list[bool]) -> pa.Table:
    rows = len(held_user)
    return pa.table(
        {
            "query_id": [f"q{n:03d}" for n in range(rows)],
            "image_sha256": [f"{n:08x}" for n in range(rows)],
            "class_id": [0] * rows,
            "settled": [True] * rows,
            "held_user": held_user,
        }
    )


def shots(scene_of: list[int]) -> np.ndarray:  # type: ignore[type-arg]
    rng = np.random.default_rng(0)
    scene = rng.standard_normal((max(scene_of) + 1, 32))
    return (scene[scene_of] + 0.05 * rng.standard_normal((len(scene_of), 32))).astype(np.float32)


def test_no_training_photo_is_a_neighbour_of_a_held_out_one() -> None:
    scene_of = [scene for scene in range(20) for _ in range(3)]
    held_user = [row % 3 == 0 and row < 30 for row in range(60)]  # the first shot of ten scenes
    side = held_out.sides(photos(held_user), shots(scene_of), RECIPE)["side"].to_pylist()
    judged = {scene_of[row] for row in range(60) if side[row] == held_out.HELD_OUT}
    learned = {scene_of[row] for row in range(60) if side[row] == ""}
    assert judged and not judged & learned
    assert side.count(held_out.NEAR_HELD_OUT) <= 6
    assert all(
        side[row] in (held_out.HELD_OUT, held_out.USER_HELD_OUT) for row in range(60) if held_user[row]
    )


def test_without_embeddings_only_identical_photos_are_neighbours() -> None:
    table = photos([True, False, False] + [False] * 20)
    table = table.set_column(1, "image_sha256", pa.array(["a", "a", *(f"b{n}" for n in range(21))]))
    side = held_out.sides(table, None, RECIPE)["side"].to_pylist()
    assert side[:3] == [held_out.HELD_OUT, held_out.NEAR_HELD_OUT, ""]


def test_a_session_ends_after_half_an_hour_of_silence() -> None:
    start = datetime(2025, 1, 1, tzinfo=UTC)
    times = [start + timedelta(minutes=m) for m in (0, 20, 45, 90, 0)]
    found = held_out.sessions(pa.chunked_array([["u", "u", "u", "u", "v"]]), pa.chunked_array([times]))
    assert found[0] == found[1] == found[2] and len(set(found.tolist())) == 3
