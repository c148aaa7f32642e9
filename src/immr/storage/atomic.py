"""Atomic writes of files and folders: readers see the old content or the new, never a mixture."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from immr.errors import DataError
from immr.storage.leftovers import in_use, prefix_beside

_AT_FDCWD = -100  # paths are relative to the working folder
_RENAME_EXCHANGE = 2  # Linux, renameat2(2)
_RENAME_SWAP = 2  # macOS, renamex_np(2)
_OCCUPIED = {errno.ENOTEMPTY, errno.EEXIST}  # the target of a rename is a folder with content
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}  # by this file system or kernel


def write_atomically(path: Path, content: str | bytes | memoryview, mode: int = 0o644) -> None:
    """Write a file; its folder is created if necessary, and an existing file is replaced in one step.

    Args:
        path: the file to write.
        content: text is encoded as UTF-8; a memoryview is of bytes.
        mode: permissions of the new file.
    """
    with writing_atomically(path, mode) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def writing_atomically(path: Path, mode: int = 0o644) -> Iterator[Path]:
    """Yield a temporary file that takes the place of `path` when the block succeeds: for content of any size.

    Args:
        path: the file to write; its folder is created if necessary.
        mode: permissions of the new file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix_beside(path))
    except OSError as error:  # names the temporary file
        raise OSError(error.errno, error.strerror, str(path)) from error
    temporary = Path(name)
    try:
        with in_use(temporary):
            yield temporary
        os.fsync(handle)
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)


def check_writable(path: Path) -> None:
    """Find out before long work whether its file can be written at the end; creates its folder if necessary.

    Raises:
        OSError: It cannot.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=prefix_beside(path)):
        pass


@contextmanager
def replace_folder_atomically(path: Path, expected: Collection[str] | None = None) -> Iterator[Path]:
    """Yield an empty temporary folder that takes the place of `path` when the block succeeds.

    `path` exists throughout: it is swapped with the temporary folder in one system call. If the block or the
    swap fails, `path` is left as it was. Several processes may replace the same folder; the last one wins.
    A reader that opens several files one after the other may get files of two generations.

    On file systems that cannot swap (some network mounts) the old folder is renamed first, so `path` is
    missing for an instant.

    Args:
        path: the folder to create or replace; a symbolic link is followed.
        expected: refuse to replace a folder that contains anything else; by default replace any folder.

    Raises:
        DataError: `path` contains something that is not `expected`.
    """
    if expected is not None:
        check_replaceable(path, expected)
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=prefix_beside(path)))
    temporary.chmod(0o755)
    try:
        with in_use(temporary):
            yield temporary
        _move_into_place(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # now the former content, or after an error the new one


def check_replaceable(path: Path, expected: Collection[str]) -> None:
    """Raise if replacing a folder would delete anything other than the `expected` files.

    Raises:
        DataError: Other files would be deleted, or `path` is a file.
    """
    found = {entry.name for entry in path.iterdir()} if path.is_dir() else set[str]()
    if path.exists() and (not path.is_dir() or found - set(expected)):
        strange = ", ".join(sorted(found - set(expected))[:3]) or "it is a file"
        raise DataError(f"{path} contains other files that would be lost ({strange}): choose another folder")


def _move_into_place(new: Path, path: Path) -> None:
    """Rename `new` to `path`; an existing folder ends up at `new`."""
    while True:
        try:
            new.rename(path)  # works if `path` is missing or an empty folder
            return
        except OSError as error:
            if error.errno not in _OCCUPIED:
                raise
        with suppress(FileNotFoundError):  # another process has just removed `path`: rename again
            if not _exchange(new, path):
                _replace_in_two_steps(new, path)
            return


def _exchange(first: Path, second: Path) -> bool:
    """Swap two names in one system call; False if the platform or the file system cannot do that."""
    exchange = _exchange_function()
    if exchange is None:
        return False
    if exchange(os.fsencode(first), os.fsencode(second)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(first), None, str(second))


@functools.cache
def _exchange_function() -> Callable[[bytes, bytes], int] | None:
    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "darwin":
        return lambda first, second: int(libc.renamex_np(first, second, _RENAME_SWAP))
    if not hasattr(libc, "renameat2"):
        return None
    return lambda first, second: int(
        libc.renameat2(_AT_FDCWD, first, _AT_FDCWD, second, ctypes.c_uint(_RENAME_EXCHANGE))
    )


def _replace_in_two_steps(new: Path, path: Path) -> None:
    """Rename the old folder away, then the new one into place; put the old one back if that fails."""
    former = Path(tempfile.mkdtemp(dir=path.parent, prefix=prefix_beside(path)))
    try:
        while True:
            with suppress(FileNotFoundError):
                path.rename(former)
            try:
                new.rename(path)
                return
            except OSError as error:
                if error.errno in (
                    errno.ENOTEMPTY,
                    errno.EEXIST,
                ):  # another writer came first: replace its folder
                    shutil.rmtree(former, ignore_errors=True)
                    former.mkdir(exist_ok=True)
                    continue
                with suppress(OSError):
                    former.rename(path)
                raise
    finally:
        shutil.rmtree(former, ignore_errors=True)
