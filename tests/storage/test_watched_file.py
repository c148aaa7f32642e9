import logging
from pathlib import Path

import pytest

from immr.storage.watched_file import WatchedFile


def number(path: Path) -> int:
    return int(path.read_text())


def test_a_change_is_seen_at_the_next_use(tmp_path: Path) -> None:
    path = tmp_path / "number"
    path.write_text("1")
    watched = WatchedFile(path, number, "numbers")
    assert watched.current() == 1
    (tmp_path / "new").write_text("2")
    (tmp_path / "new").replace(path)  # as fast as it may be: the inode differs
    assert watched.current() == 2


def test_an_unchanged_file_is_read_once(tmp_path: Path) -> None:
    reads = []
    (tmp_path / "number").write_text("1")
    watched = WatchedFile(tmp_path / "number", lambda path: reads.append(path), "numbers")
    for _ in range(3):
        watched.current()
    assert len(reads) == 1


@pytest.mark.parametrize("content", ["not a number", None])
def test_the_former_content_stays_in_force(
    tmp_path: Path, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "number"
    path.write_text("1")
    watched = WatchedFile(path, number, "numbers")
    path.unlink()
    if content:
        path.write_text(content)
    with caplog.at_level(logging.ERROR):
        assert watched.current() == 1
    assert watched.wrong and "former numbers stay in force" in caplog.text
    path.write_text("3 ")
    assert watched.current() == 3
    assert watched.wrong == ""


def test_an_invalid_file_at_the_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        WatchedFile(tmp_path / "number", number, "numbers")
