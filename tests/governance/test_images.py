from pathlib import Path

import pyarrow.parquet as pq
import pytest

from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.images import SCHEMA, inspect_all
from tests.support.odd_pictures import usable_and_not

RECIPE = GovernanceRecipe(min_image_side_px=32)


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, str]:
    return usable_and_not(tmp_path)


def test_a_recipe_without_the_check_refuses_no_image(pictures: dict[str, str], tmp_path: Path) -> None:
    for check, reasons in (
        (True, ["image has a side below 32 px", "image cannot be read"]),
        (False, ["", ""]),
    ):
        recipe = GovernanceRecipe(check_images=check)
        inspect_all([pictures["small"], pictures["missing"]], tmp_path / "images.parquet", recipe)
        assert pq.read_table(tmp_path / "images.parquet")["reason"].to_pylist() == reasons


def test_the_table_keeps_the_given_order(pictures: dict[str, str], tmp_path: Path) -> None:
    uris = [pictures[name] for name in ("small", "good", "cut")]
    inspect_all(uris, tmp_path / "images.parquet", RECIPE)
    table = pq.read_table(tmp_path / "images.parquet")
    assert table.schema.equals(SCHEMA)
    assert table["image"].to_pylist() == uris
