"""Writing so that nothing half-written is ever read: write aside, then rename."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from immr.errors import DataError


def write_whole(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Write a file aside and rename it into place; readers see the old or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        Path(aside).chmod(mode)
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


@contextmanager
def folder_written_whole(path: Path) -> Iterator[Path]:
    """Give an empty folder aside; on success it replaces `path`, on error it is gone."""
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    aside.chmod(0o755)
    before = aside.with_name(f"{aside.name}.before")
    try:
        yield aside
        if path.exists():
            path.rename(before)
        aside.rename(path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    shutil.rmtree(before, ignore_errors=True)


@contextmanager
def folder_replaced(path: Path, ours: Collection[str]) -> Iterator[Path]:
    """The same, where a user has named the folder: see `refuse_to_replace`."""
    refuse_to_replace(path, ours)
    with folder_written_whole(path) as aside:
        yield aside


def refuse_to_replace(path: Path, ours: Collection[str]) -> None:
    """Raise where a folder holds anything but `ours`, which would be lost with it.

    Raises:
        DataError: it does, or `path` is no folder.
    """
    there = {entry.name for entry in path.iterdir()} if path.is_dir() else set[str]()
    if path.exists() and (not path.is_dir() or there - set(ours)):
        strange = ", ".join(sorted(there - set(ours))[:3]) or "it is a file"
        raise DataError(f"{path} holds something else ({strange}), which would be lost: give another folder")
