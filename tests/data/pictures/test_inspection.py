"""Pictures that are usable, and why others are not."""

from pathlib import Path
from typing import Literal
from unicodedata import normalize

import pytest

from immr.data.pictures.inspection import NOT_FETCHED, NOT_READ, SMALLEST_SIDE_PX, inspect
from immr.data.pictures.picture_files import is_file, read
from immr.data.pictures.remote.downloads import Fetched
from immr.governance.governance_recipe import GovernanceRecipe
from immr.storage import fingerprint
from tests.support.odd_pictures import usable_and_not


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, str]:
    return usable_and_not(tmp_path)


def test_each_picture_gets_its_hash_and_the_reason_it_is_refused(pictures: dict[str, str]) -> None:
    found = {name: inspect(uri, 32) for name, uri in pictures.items()}
    assert {name: one.reason for name, one in found.items()} == {
        "good": "",
        "small": "image has a side below 32 px",
        "cut": "image cannot be decoded",
        "missing": NOT_READ,
    }
    assert found["good"].image_sha256 == fingerprint.of_bytes(Path(pictures["good"]).read_bytes())
    assert found["small"].detail == "16×16 px"
    assert found["missing"].image_sha256 == ""


def test_without_a_smallest_side_pictures_are_only_hashed(pictures: dict[str, str]) -> None:
    found = [inspect(uri, None) for uri in pictures.values()]
    assert {one.reason for one in found} == {""}
    assert [bool(one.image_sha256) for one in found] == [True, True, True, False]


def test_a_fetched_picture_is_checked_where_it_is(pictures: dict[str, str]) -> None:
    url = "https://shop.example/a.png"
    assert inspect(url, 32, Fetched(Path(pictures["good"]))).place == pictures["good"]
    failed = inspect(url, 32, Fetched(None, "404"))
    assert (failed.reason, failed.detail, failed.place) == (NOT_FETCHED, "404", url)


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
def test_a_name_may_be_in_another_normal_form(
    pictures: dict[str, str], tmp_path: Path, on_disk: Literal["NFC", "NFD"]
) -> None:
    """A catalogue lost the pictures with an "é" in their names once they had been copied from a Mac."""
    place = tmp_path / "Küche" / normalize(on_disk, "Töpfe 日本.png")
    place.parent.mkdir()
    place.write_bytes(Path(pictures["good"]).read_bytes())
    for form in ("NFC", "NFD"):
        named = normalize(form, str(place))
        assert (inspect(named, 32).reason, inspect(named, 32).place) == ("", str(place))
        assert is_file(named) and is_file(f"file://{named}") and read(named)
        assert inspect(named.replace(".png", ".jpg"), 32).reason == NOT_READ


def test_changed_items_follow_the_rule_of_the_built_in_recipes() -> None:
    assert GovernanceRecipe().min_image_side_px == SMALLEST_SIDE_PX
