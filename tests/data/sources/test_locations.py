"""Places on object storage, as messages and cache keys name them."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from pathlib import Path

import pytest

from immr.data.sources import locations
from immr.data.sources.locations import Location
from immr.data.sources.shop import Shop
from immr.data.validation.check import check
from immr.errors import ContractError


@pytest.mark.parametrize("uri", ["gs://shop/tables", "gs://shop/tables/"])
def test_a_file_below_a_folder_is_named_the_same_with_and_without_a_slash(uri: str) -> None:
    folder = Location.of(uri)
    assert (folder.path, folder.uri) == ("shop/tables", "gs://shop/tables")
    assert (
        (folder / "items.csv").uri
        == folder._below("shop/tables/items.csv").uri
        == "gs://shop/tables/items.csv"
    )


def test_two_stars_stand_for_any_number_of_folders(tmp_path: Path) -> None:
    """For none, too, as in a shell."""
    for name in ("a.csv", "x/b.csv", "x/y/c.csv", "x/y/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def found(pattern: str) -> list[str]:
        files = Location.of(f"{tmp_path}/{pattern}").matching()
        return [file.path.removeprefix(f"{tmp_path}/") for file in files]

    assert found("**/*.csv") == ["a.csv", "x/b.csv", "x/y/c.csv"]
    assert found("x/**/*.csv") == ["x/b.csv", "x/y/c.csv"]
    assert found("**/x/**/*.csv") == ["x/b.csv", "x/y/c.csv"]
    assert found("x/**") == ["x/b.csv", "x/y/c.csv", "x/y/d.txt"]
    with pytest.raises(ContractError, match=r"\*\* stands for folders: write it between slashes"):
        found("**.csv")
    assert found("*.csv") == ["a.csv"] and found("*/*.csv") == ["x/b.csv"]


def test_a_server_that_does_not_answer_is_no_missing_file() -> None:
    assert re.search("127.0.0.1|[Cc]onnect", Location.of("http://127.0.0.1:9/items.csv").problem())
    with pytest.raises(
        ContractError, match=r"there is no file http://127\.0\.0\.1:9/items\.csv \(.*[Cc]onnect.*\): give"
    ):
        Shop.catalogue("http://127.0.0.1:9/items.csv")
    assert Location.of("/nowhere/items.csv").problem() == ""


def test_google_cloud_storage_is_given_up_within_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client retries for a quarter of an hour without a word."""
    assert locations._GCS_RETRIES.total_seconds() <= 60
    monkeypatch.setattr(locations, "_GCS_RETRIES", timedelta(seconds=1))
    monkeypatch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(ContractError, match="set GOOGLE_APPLICATION_CREDENTIALS"):
        Location.of("gs://shop/items.csv").is_file()
    assert time.monotonic() - started < 30


def test_a_scheme_may_have_capital_letters() -> None:
    assert Location.of("S3://shop/items.csv?region=eu-central-1").path == "shop/items.csv"


def test_a_folder_is_listed_once_for_all_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check listed a folder of 100,000 pictures 17 times, with 100 requests each."""
    (tmp_path / "items-1.csv").write_text("item_id,title\na,Tea\n")
    listed = list[str]()
    original = Location._files

    def files(self: Location, recursive: bool) -> list[Location]:
        listed.append(self.path)
        return original(self, recursive)

    monkeypatch.setattr(Location, "_files", files)
    assert [report.files for report in check(tmp_path)] == [1, 0, 0]
    assert listed == [str(tmp_path)]
    with pytest.raises(ContractError, match="queries"):
        Shop.of(tmp_path).tables()
    assert listed == [str(tmp_path)] * 2
    (tmp_path / "items-2.csv").write_text("item_id,title\nb,Milk\n")
    assert check(tmp_path)[0].files == 2
