"""A table that is in a folder twice."""

from pathlib import Path

import pytest

from immr.data.contract import ITEMS
from immr.data.sources.locations import Location
from immr.data.sources.shop import Shop
from immr.data.validation.check import check
from immr.errors import ContractError
from tests.data.sources.test_shop import admitted, write


@pytest.mark.parametrize("part", ["items/1.parquet", "items/day=1/1.parquet", "items.csv/part-0.parquet"])
def test_a_file_beside_a_folder_of_its_name_is_refused(tmp_path: Path, part: str) -> None:
    """The folder was ignored, which may have been the newer of both."""
    write(tmp_path / "items.parquet")
    write(tmp_path / part, title="Newer")
    folder = part.partition("/")[0]
    message = (
        rf"has items\.parquet and {folder}/, and each may be the table items: keep one of them, and remove"
    )
    with pytest.raises(ContractError, match=message):
        admitted(tmp_path, tmp_path)


@pytest.mark.parametrize("name", ["tea.jpg", "schema.json", "readme.txt", "~$items.csv"])
def test_a_folder_of_its_name_may_have_pictures_and_notes(tmp_path: Path, name: str) -> None:
    write(tmp_path / "items.parquet")
    (tmp_path / "items").mkdir()
    (tmp_path / "items" / name).write_text("x")
    assert [row["title"] for row in admitted(tmp_path, tmp_path)] == ["Tea"]


def test_a_folder_of_pictures_beside_the_table_is_not_listed_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million pictures take a thousand requests to S3, for each time that a table is looked for."""
    for name in ("items/a/1.jpg", "items/b/2.jpg", "items/b/c/3.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    write(tmp_path / "items.parquet")
    listed, files, first_files = [], Location.files, Location.first_files

    def all_of(self: Location, recursive: bool = False) -> list[Location]:
        listed.append((self.name, recursive))
        return files(self, recursive)

    def first_of(self: Location) -> list[Location]:
        listed.append((self.name, False))
        return first_files(self)

    monkeypatch.setattr(Location, "files", all_of)
    monkeypatch.setattr(Location, "first_files", first_of)
    assert [row["title"] for row in admitted(tmp_path, tmp_path)] == ["Tea"]
    assert set(listed) == {(tmp_path.name, False), ("items", False), ("a", False)}


def test_partitions_beside_a_file_of_the_table_are_found_behind_a_mark_of_spark(tmp_path: Path) -> None:
    write(tmp_path / "items.parquet")
    write(tmp_path / "items/day=1/1.parquet")
    (tmp_path / "items/_SUCCESS").touch()
    with pytest.raises(ContractError, match="keep one of them"):
        admitted(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["Artikel.xlsx"], r"has no table items: Artikel\.xlsx is a spreadsheet: save it as CSV \(UTF-8\)$"),
        (["shop.zip"], r"shop\.zip is packed: unpack it$"),
        (
            ["exports/artikel.csv", "images/1.jpg"],
            r"exports/artikel\.csv may be it: give that file, or its folder$",
        ),
        (
            ["1.JPG", "2.png"],
            r"it has 2 pictures, but no table with a row for each item: write one, such as items\.csv",
        ),
        (["artikel.csv"], r"items\.parquet is missing: put the table items there"),
    ],
)
def test_a_folder_without_the_catalogue_says_what_it_has(tmp_path: Path, files: list[str], says: str) -> None:
    """`immr start` on a folder with an Excel file asked for items.parquet."""
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a,b\n1,2\n")
    with pytest.raises(ContractError, match=says):
        Shop.catalogue(tmp_path).table(ITEMS)


@pytest.mark.parametrize("name", ["items-2.csv", "items/more.csv"])
def test_a_part_that_is_a_link_to_nothing_is_not_left_out(tmp_path: Path, name: str) -> None:
    header = "item_id,title,description,category,image,price,updated_at\n"
    (tmp_path / "items").mkdir()
    first = tmp_path / (name.replace("-2", "-1") if "-" in name else "items/first.csv")
    first.write_text(header + "a,Tea,,All,a.jpg,1,2025-01-01\n")
    (tmp_path / "items" / "a.jpg").symlink_to("/nowhere")  # a picture, which is checked later
    assert check(tmp_path)[0].sampled == 1
    (tmp_path / name).symlink_to("/nowhere")
    error = check(tmp_path)[0].error
    assert f"{tmp_path}/{name}" in error and "No such file" in error
