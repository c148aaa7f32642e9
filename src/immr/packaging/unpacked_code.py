"""The unpacked code of Bentos' wheels: one folder per content, deleted once no process runs it.

A process holds a shared lock on a file beside the folder for as long as it runs, and takes it before it looks at the
folder. Whoever deletes the folder holds the lock alone meanwhile.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from immr.storage.atomic import replace_folder_atomically

log = logging.getLogger(__name__)

_DELETED = ".deleted"  # ends the name of a folder that is being deleted


def unpack(wheel: Path, folder: Path) -> int:
    """Unpack a wheel, unless its folder exists, and keep the folder from being deleted.

    Args:
        wheel: The wheel.
        folder: The folder of its content.

    Returns:
        The descriptor of the lock, inherited by a program that replaces this process. Closing it gives the folder up.

    Raises:
        OSError: The folder cannot be written.
        zipfile.BadZipFile: The wheel is damaged.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(folder)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        if not folder.is_dir():
            with replace_folder_atomically(folder) as temporary, zipfile.ZipFile(wheel) as archive:
                archive.extractall(temporary)
        os.set_inheritable(lock, True)
    except BaseException:
        os.close(lock)
        raise
    return lock


def delete_unused(folder_of_all: Path) -> list[Path]:
    """Delete the code that no process runs; a version whose process is down unpacks it again.

    Returns:
        The deleted folders. Nothing is raised: what cannot be deleted now is deleted by a later start.
    """
    with_path = _on_some_path()
    deleted = []
    with suppress(OSError):
        for rest in folder_of_all.glob(f".*{_DELETED}"):  # of a process that was killed here
            shutil.rmtree(rest, ignore_errors=True)
        for folder in sorted(folder_of_all.iterdir()):
            unpacked = folder.is_dir() and not folder.name.startswith(".")  # such are being written
            if unpacked and str(folder) not in with_path and _delete_unless_locked(folder):
                log.info("deleted %s, which no process runs", folder)
                deleted.append(folder)
    return deleted


def _delete_unless_locked(folder: Path) -> bool:
    try:
        lock = _lock(folder)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        doomed = folder.with_name(f".{folder.name}{_DELETED}")
        folder.rename(doomed)  # in one step: no process may find half of the code
        shutil.rmtree(doomed)
        return True
    except OSError:  # in use, or not ours to delete
        return False
    finally:
        os.close(lock)


def _lock(folder: Path) -> int:
    return os.open(folder.with_name(f"{folder.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)


def _on_some_path() -> set[str]:
    """Folders on the PYTHONPATH of a process: workers, and processes of releases that took no lock."""
    found: set[str] = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            found.update(process.environ().get("PYTHONPATH", "").split(os.pathsep))
    return found
