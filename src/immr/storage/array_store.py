"""Arrays by key in immutable Arrow files, mapped into memory: the caches of features and of decoded pictures.

A file holds entries sorted by the hash of their key, so a lookup is a binary search and reads nothing else. `add`
writes a new file; many small files are merged into one. The keys of many large files are joined in memory, so that a
lookup does not search each of them. Files are never changed in place, so hosts can share a volume (LMDB and SQLite
need locks that NFS does not provide).

A merged file is renamed, and deleted a week later, so that a host that has it mapped can still read it.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from immr.errors import DataError
from immr.storage.array_file import SCHEMA, ArrayFile
from immr.storage.atomic import write_atomically
from immr.storage.stored_arrays import StoredArrays

_SUFFIX, _MERGED = ".arrow", ".merged"
_SMALL_FILES = 32  # at most; then they are merged
_SEARCHED_FILES = 32  # large ones, at most; then their keys are joined
_KEPT_S = 7 * 86_400.0  # a merged file, for trainings on other hosts that have mapped it
_log = logging.getLogger(__name__)


class _Joined:
    """The keys of several files, 40 bytes of memory each."""

    def __init__(self, files: Sequence[ArrayFile]) -> None:
        self.files = list(files)
        keys_N = np.concatenate([np.zeros(0, "S32"), *(file.keys_N for file in files)])
        order_N = np.argsort(keys_N, kind="stable")
        self._keys_N = keys_N[order_N]
        starts = np.cumsum([0, *(len(file.keys_N) for file in files)])
        file_N = np.repeat(np.arange(len(files), dtype=np.int32), np.diff(starts))
        self._row_N = (np.arange(len(keys_N)) - starts[file_N]).astype(np.int32)[order_N]
        self._file_N = file_N[order_N]

    def find(
        self, wanted_M: npt.NDArray[np.bytes_]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """(M,) whether each wanted key is here, then the file and the row of those that are."""
        if not len(self._keys_N):
            return np.zeros(len(wanted_M), bool), self._file_N, self._row_N
        at_M = np.searchsorted(self._keys_N, wanted_M).clip(max=len(self._keys_N) - 1)
        here_M = self._keys_N[at_M] == wanted_M
        return here_M, self._file_N[at_M[here_M]], self._row_N[at_M[here_M]]


class ArrayStore:
    """The arrays of one type below a folder. Safe for concurrent writers, and if a writer is killed."""

    def __init__(self, folder: Path, dtype: npt.DTypeLike):
        self.folder = folder
        self._dtype = np.dtype(dtype)
        self._open: dict[Path, ArrayFile] = {}
        self._joined = _Joined([])

    def add(self, entries: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write a file with these entries."""
        if not entries:
            return
        rows = sorted((_digest(key), np.ascontiguousarray(entries[key], self._dtype)) for key in entries)
        self._write([key for key, _ in rows], [values for _, values in rows])
        self._merge_small()

    def has(self, keys: Sequence[str]) -> set[str]:
        """The keys that are stored; reads no values."""
        wanted = list(dict.fromkeys(keys))
        there = self.find(wanted).there_N.tolist()
        return {key for key, is_there in zip(wanted, there, strict=True) if is_there}

    def find(self, keys: Sequence[str]) -> StoredArrays:
        """Where the array of each key is, in this order; reads no values."""
        digests_M = np.array([_digest(key) for key in keys], "S32")
        files = self._files() if len(keys) else []
        joined = self._join(files)
        here_M, file_L, row_L = joined.find(digests_M)
        file_M, row_M = np.full(len(keys), -1, np.int32), np.zeros(len(keys), np.int32)
        file_M[here_M], row_M[here_M] = file_L, row_L
        known = list(joined.files)
        left_L, searched = np.flatnonzero(~here_M), {file.path for file in known}
        for other in (file for file in files if file.path not in searched):
            if not len(left_L):
                break
            rows_L = other.rows(digests_M[left_L])
            found_L = left_L[rows_L >= 0]
            file_M[found_L], row_M[found_L] = len(known), rows_L[rows_L >= 0]
            known.append(other)
            left_L = left_L[rows_L < 0]
        return StoredArrays(known, file_M, row_M, self._dtype)

    def get(self, keys: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """The stored arrays of these keys, read-only views into the files.

        A file that cannot be read is deleted, so that its entries are computed again.
        """
        wanted = list(dict.fromkeys(keys))
        arrays, found = self.find(wanted), {}
        for number in np.flatnonzero(arrays.there_N).tolist():
            with suppress(DataError):
                found[wanted[number]] = arrays.read(number)
        return found

    def _join(self, files: Sequence[ArrayFile]) -> _Joined:
        """Large files, of which a few new ones may be missing; they stay, so this is rarely made again."""
        large = [file for file in files if not file.is_small]
        if len(large) - len(self._joined.files) > _SEARCHED_FILES or not self._open.keys() >= {
            file.path for file in self._joined.files
        }:
            self._joined = _Joined(large if len(large) > _SEARCHED_FILES else [])
        return self._joined

    def _files(self) -> list[ArrayFile]:
        there = {name for name in self._names() if name.endswith(_SUFFIX) and not name.startswith(".")}
        self._open = {path: file for path, file in self._open.items() if path.name in there}
        known = {path.name for path in self._open}
        for path in (self.folder / name for name in sorted(there - known)):
            try:
                self._open[path] = ArrayFile.open(path)
            except FileNotFoundError:  # just merged by another process
                return self._files()
            except pa.ArrowInvalid:
                self._delete_broken(path)
        return list(self._open.values())

    def _names(self) -> list[str]:
        try:
            with os.scandir(self.folder) as entries:  # a glob takes ten times as long
                return [entry.name for entry in entries]
        except FileNotFoundError:
            return []

    def _delete_broken(self, path: Path) -> None:
        _log.warning("deleting the broken cache file %s; its entries are computed again", path)
        path.unlink(missing_ok=True)
        self._open.pop(path, None)

    def _write(self, keys: Sequence[bytes], arrays: Sequence[npt.NDArray[Any]]) -> Path:
        contents = [values.tobytes() for values in arrays]
        batch = pa.record_batch(
            [
                pa.array(keys, SCHEMA.field("key").type),
                pa.array([values.shape for values in arrays], SCHEMA.field("shape").type),
                pa.array([zlib.crc32(content) for content in contents], pa.uint32()),
                pa.array(contents, pa.large_binary()),
            ],
            schema=SCHEMA,
        )
        content = io.BytesIO()
        with pa.ipc.new_file(content, SCHEMA) as writer:
            writer.write_batch(batch)
        path = self.folder / f"{hashlib.sha256(b''.join(keys)).hexdigest()[:32]}{_SUFFIX}"
        write_atomically(path, content.getbuffer())
        return path

    def _merge_small(self) -> None:
        small = [file for file in self._files() if file.is_small]
        if len(small) < _SMALL_FILES:
            return
        merged: dict[bytes, npt.NDArray[Any]] = {}
        for file in small:
            try:
                merged |= {key: file.array(row, self._dtype) for row, key in enumerate(_whole(file.keys_N))}
            except ValueError:
                self._delete_broken(file.path)
        keys = sorted(merged)
        written = self._write(keys, [merged[key] for key in keys])
        for file in small:
            if file.path != written:
                with suppress(FileNotFoundError):
                    file.path.rename(file.path.with_suffix(_MERGED))
        for old in self.folder.glob(f"*{_MERGED}"):
            with suppress(FileNotFoundError):
                if time.time() - old.stat().st_ctime > _KEPT_S:
                    old.unlink()


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _whole(keys_N: npt.NDArray[np.bytes_]) -> Iterator[bytes]:
    """The keys with the zeros at their ends, which numpy cuts off."""
    return (key.ljust(32, b"\0") for key in keys_N.tolist())
