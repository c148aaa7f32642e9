"""What killed processes leave behind is deleted; what anyone uses, and what is not ours, never."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from immr.storage import leftovers
from immr.storage.atomic import replace_folder_atomically, write_atomically, writing_atomically

KILLED = """
import os, signal, sys
from pathlib import Path
from immr.storage.atomic import replace_folder_atomically, writing_atomically
here = Path(sys.argv[1])
with replace_folder_atomically(here / "set") as folder, writing_atomically(here / "file") as file:
    (folder / "half").touch()
    file.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def temporary(folder: Path) -> list[Path]:
    return sorted(folder.glob(".*.immr-*"))


def age(*paths: Path) -> None:
    for path in paths:
        os.utime(path, (0, 0))


@pytest.fixture
def left(tmp_path: Path) -> list[Path]:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert [path.is_dir() for path in temporary(tmp_path)] == [False, True]
    return temporary(tmp_path)


def test_the_next_process_that_writes_there_deletes_them_after_a_day(
    tmp_path: Path, left: list[Path]
) -> None:
    write_atomically(tmp_path / "other", "")
    assert temporary(tmp_path) == left, "they may be in use by a process that does not lock them"
    age(*left)
    leftovers._delete_once.cache_clear()  # as in another process
    write_atomically(tmp_path / "other", "")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_files_in_use_and_files_of_others_stay(tmp_path: Path) -> None:
    others = [tmp_path / ".eslintrc.original", tmp_path / ".immr-abcdefgh", tmp_path / "immr-abcdefgh"]
    for other in others:
        other.touch()
    with replace_folder_atomically(tmp_path / "set") as folder, writing_atomically(tmp_path / "file") as file:
        age(folder, file, *others)
        leftovers.delete_leftovers(tmp_path)
        assert folder.is_dir() and file.is_file()
    assert all(other.is_file() for other in others)
    assert (tmp_path / "set").is_dir() and (tmp_path / "file").is_file()


def test_a_folder_that_is_missing_is_no_error(tmp_path: Path) -> None:
    leftovers.delete_leftovers(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []
