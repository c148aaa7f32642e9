from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.labels import cleaning
from immr.governance.labels.appearance import MOVED_WEIGHT, judged
from immr.governance.workspace import Workspace
from immr.types import FloatArray

Table = Callable[[list[dict[str, Any]]], Any]
CLASSES, PHOTOS = 6, 20
WRONG = "q000"  # clicked as class 1, looks like class 0


class ByClass:
    """Embeds a photo near the centre of the class that its hash starts with."""

    name = "by class"

    def embed(self, uris: dict[str, str], hashes: list[str]) -> FloatArray:
        rng = np.random.default_rng(0)
        centres = rng.standard_normal((CLASSES, 16))
        noise = 0.2 * rng.standard_normal((len(hashes), 16))
        return (centres[[int(each[0]) for each in hashes]] + noise).astype(np.float32)


def test_a_label_contradicted_by_appearance_is_moved(
    duckdb_workspace: Workspace, duckdb_table: Table, tmp_path: Path
) -> None:
    start = datetime(2025, 1, 1, tzinfo=UTC)
    rows = []
    for n in range(CLASSES * PHOTOS):
        looks = n // PHOTOS
        class_id = 1 if n == 0 else looks
        sha = f"{looks}{n:07x}"
        rows.append(
            {"query_id": f"q{n:03d}", "user_id": f"u{n}", "ts": start + timedelta(days=n), "image": sha}
            | {"image_sha256": sha, "item_id": f"i{class_id}", "class_id": class_id}
            | {"weight": 0.9, "settled": True}
        )
    clicks = [{key: row[key] for key in ("query_id", "item_id", "weight", "class_id")} for row in rows]
    items = [{"item_id": f"i{n}", "class_id": n} for n in range(CLASSES)]
    tables = [duckdb_table(each) for each in (rows, clicks, items)]
    table, wrong_share = judged(duckdb_workspace, *tables, ByClass(), GovernanceRecipe(), tmp_path)
    found = {row["query_id"]: row for row in duckdb_workspace.fetch(table, ["query_id"])}
    moved = found[WRONG]
    assert (moved["moved"], moved["class_id"], moved["item_id"]) == (cleaning.MOVED, 0, "i0")
    assert (moved["clicked_item"], moved["weight"], moved["reason"]) == ("i1", MOVED_WEIGHT, "")
    others = [row for row in found.values() if row["query_id"] != WRONG]
    assert {(row["moved"], row["reason"], row["weight"]) for row in others} == {("", "", 0.9)}
    assert 0 < wrong_share < 0.05
