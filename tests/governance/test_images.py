from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.images import SCHEMA, inspect, inspect_all
from immr.storage import fingerprint

RECIPE = GovernanceRecipe(min_image_side_px=32)


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, str]:
    for name, side_px in (("good", 64), ("small", 16)):
        Image.new("RGB", (side_px, side_px), "teal").save(tmp_path / f"{name}.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:60])
    return {name: str(tmp_path / f"{name}.png") for name in ("good", "small", "cut", "missing")}


def test_each_image_gets_its_hash_and_the_reason_it_is_refused(pictures: dict[str, str]) -> None:
    found = {name: inspect(uri, RECIPE) for name, uri in pictures.items()}
    assert {name: one.reason for name, one in found.items()} == {
        "good": "",
        "small": "image has a side below 32 px",
        "cut": "image cannot be decoded",
        "missing": "image cannot be read",
    }
    assert found["good"].image_sha256 == fingerprint.of_bytes(Path(pictures["good"]).read_bytes())
    assert found["small"].detail == "16×16 px"
    assert found["missing"].image_sha256 == ""


def test_without_the_check_images_are_only_hashed(pictures: dict[str, str]) -> None:
    recipe = GovernanceRecipe(check_images=False)
    found = [inspect(uri, recipe) for uri in pictures.values()]
    assert {one.reason for one in found} == {""}
    assert [bool(one.image_sha256) for one in found] == [True, True, True, False]


def test_the_table_keeps_the_given_order(pictures: dict[str, str], tmp_path: Path) -> None:
    uris = [pictures[name] for name in ("small", "good", "cut")]
    inspect_all(uris, tmp_path / "images.parquet", RECIPE)
    table = pq.read_table(tmp_path / "images.parquet")
    assert table.schema.equals(SCHEMA)
    assert table["image"].to_pylist() == uris
