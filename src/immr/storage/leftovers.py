"""Temporary files and folders beside their targets: each locked while in use, deleted if its process was killed."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

_NAME = re.compile(r"\..+\.immr-[a-z0-9_]{8}")  # nobody else's
_KEPT_S = 24 * 3600.0


def prefix_beside(path: Path) -> str:
    """What the names of temporary files and folders for this target begin with, for `tempfile`."""
    _delete_once(path.parent)
    return f".{path.name}.immr-"


@contextmanager
def in_use(temporary: Path) -> Iterator[None]:
    """Lock a temporary file or folder for the duration of the block, or until this process dies."""
    handle = os.open(temporary, os.O_RDONLY)
    try:
        with suppress(OSError):  # without locks on this file system, nothing is ever deleted
            fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


@cache
def _delete_once(folder: Path) -> None:
    delete_leftovers(folder)


def delete_leftovers(folder: Path) -> None:
    """Delete the folder's temporary files and folders that are a day old and that no process uses."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _NAME.fullmatch(entry.name) and time.time() - entry.stat().st_mtime > _KEPT_S:
                _delete_unless_used(Path(entry.path))


def _delete_unless_used(left: Path) -> None:
    with suppress(OSError):  # another process deletes it, or uses it
        handle = os.open(left, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink()
        finally:
            os.close(handle)
