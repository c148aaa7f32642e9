from pathlib import Path

import pytest

from immr.errors import DataError
from immr.storage.atomic import folder_replaced, folder_written_whole, write_whole


def test_a_file_appears_whole_and_can_be_read_by_others(tmp_path: Path) -> None:
    write_whole(tmp_path / "deep" / "note", "new")
    assert (tmp_path / "deep" / "note").read_text() == "new"
    assert (tmp_path / "deep" / "note").stat().st_mode & 0o777 == 0o644
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["note"]


def test_a_folder_replaces_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "old").touch()
    with folder_written_whole(tmp_path / "set") as folder:
        (folder / "new").touch()
        assert (tmp_path / "set" / "old").exists()
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["new"]


def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(KeyboardInterrupt), folder_written_whole(tmp_path / "set") as folder:
        (folder / "half").touch()
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_folder_of_the_users_is_not_replaced_where_anything_would_be_lost(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for content in ("1", "2"):
        with folder_replaced(tmp_path / "out", {"ours"}) as folder:
            (folder / "ours").write_text(content)
    assert (tmp_path / "out" / "ours").read_text() == "2"
    (tmp_path / "out" / "theirs").touch()
    (tmp_path / "file").touch()
    for out in (tmp_path / "out", tmp_path / "file"):
        with pytest.raises(DataError, match="which would be lost"), folder_replaced(out, {"ours"}):
            pass
    assert (tmp_path / "out" / "theirs").exists()
