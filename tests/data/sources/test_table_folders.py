"""A table that is in a folder twice."""

from pathlib import Path

import pytest

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
