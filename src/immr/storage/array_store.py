"""Arrays by key in immutable Arrow files, mapped into memory: the caches of features and of decoded pictures.

A file holds entries sorted by the hash of their key, so a lookup is a binary search in each file and reads nothing
else. `add` writes a new file; many small files are merged into one. Files are never changed in place, so hosts can
share a volume (LMDB and SQLite need locks that NFS does not provide).

A merged file is renamed, and deleted a day later, so that a host that has it mapped can still read it.
"""

from __future__ import annotations

import hashlib
import io
import logging
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from immr.storage.atomic import write_atomically

_SCHEMA = pa.schema(
    {"key": pa.binary(32), "shape": pa.list_(pa.int32()), "crc": pa.uint32(), "values": pa.large_binary()}
)
_SUFFIX, _MERGED = ".arrow", ".merged"
_SMALL_BYTES = 8 << 20
_SMALL_FILES = 32  # at most; then they are merged
_KEPT_S = 86_400.0  # a merged file, for hosts that have mapped it
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _File:
    """One file, mapped."""

    path: Path
    keys_N: npt.NDArray[np.bytes_]  # sorted
    batch: pa.RecordBatch

    @classmethod
    def open(cls, path: Path) -> _File:
        batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        keys = batch.column(0)
        return cls(path, np.frombuffer(keys.buffers()[1], "S32", len(keys), keys.offset * 32), batch)

    def rows(self, wanted_M: npt.NDArray[np.bytes_]) -> npt.NDArray[np.int64]:
        """(M,) the row of each wanted key, −1 where it is not here."""
        at_M = np.searchsorted(self.keys_N, wanted_M).clip(max=len(self.keys_N) - 1)
        return np.where(self.keys_N[at_M] == wanted_M, at_M, -1)

    def shape(self, row: int) -> tuple[int, ...]:
        """Of the array in a row."""
        return tuple(self.batch.column(1)[row].as_py())

    def array(self, row: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """A view into the file.

        Raises:
            ValueError: the checksum does not match.
        """
        content = self.batch.column(3)[row].as_buffer()
        if zlib.crc32(content) != self.batch.column(2)[row].as_py():
            raise ValueError("wrong checksum")
        return np.frombuffer(content, dtype).reshape(self.shape(row))


class ArrayStore:
    """The arrays of one type below a folder. Safe for concurrent writers, and if a writer is killed."""

    def __init__(self, folder: Path, dtype: npt.DTypeLike):
        self.folder = folder
        self._dtype = np.dtype(dtype)
        self._open: dict[Path, _File] = {}

    def add(self, entries: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write a file with these entries."""
        if not entries:
            return
        rows = sorted((_digest(key), np.ascontiguousarray(entries[key], self._dtype)) for key in entries)
        self._write([key for key, _ in rows], [values for _, values in rows])
        self._merge_small()

    def has(self, keys: Sequence[str]) -> set[str]:
        """The keys that are stored; reads no values."""
        return {key for key, _, _ in self._found(keys)}

    def shapes(self, keys: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """The shapes of the stored arrays of these keys; reads no values."""
        return {key: file.shape(row) for key, file, row in self._found(keys)}

    def get(self, keys: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """The stored arrays of these keys, read-only views into the files.

        A file that cannot be read is deleted, so that its entries are computed again.
        """
        found = {}
        for key, file, row in self._found(keys):
            try:
                found[key] = file.array(row, self._dtype)
            except ValueError:
                self._delete_broken(file.path)
        return found

    def _found(self, keys: Sequence[str]) -> Iterator[tuple[str, _File, int]]:
        """Each stored key once, with its file and row."""
        wanted = list(dict.fromkeys(keys))
        digests_M = np.array([_digest(key) for key in wanted], "S32")
        left_L = np.arange(len(wanted))
        for file in self._files() if wanted else ():
            rows_L = file.rows(digests_M[left_L])
            here_L = rows_L >= 0
            for at, row in zip(left_L[here_L].tolist(), rows_L[here_L].tolist(), strict=True):
                yield wanted[at], file, row
            left_L = left_L[~here_L]
            if not len(left_L):
                return

    def _files(self) -> list[_File]:
        paths = sorted(self.folder.glob(f"[!.]*{_SUFFIX}"))
        there = set(paths)
        self._open = {path: file for path, file in self._open.items() if path in there}
        for path in paths:
            if path not in self._open:
                try:
                    self._open[path] = _File.open(path)
                except FileNotFoundError:  # just merged by another process
                    return self._files()
                except pa.ArrowInvalid:
                    self._delete_broken(path)
        return list(self._open.values())

    def _delete_broken(self, path: Path) -> None:
        _log.warning("deleting the broken cache file %s; its entries are computed again", path)
        path.unlink(missing_ok=True)
        self._open.pop(path, None)

    def _write(self, keys: Sequence[bytes], arrays: Sequence[npt.NDArray[Any]]) -> Path:
        contents = [values.tobytes() for values in arrays]
        batch = pa.record_batch(
            [
                pa.array(keys, _SCHEMA.field("key").type),
                pa.array([values.shape for values in arrays], _SCHEMA.field("shape").type),
                pa.array([zlib.crc32(content) for content in contents], pa.uint32()),
                pa.array(contents, pa.large_binary()),
            ],
            schema=_SCHEMA,
        )
        content = io.BytesIO()
        with pa.ipc.new_file(content, _SCHEMA) as writer:
            writer.write_batch(batch)
        path = self.folder / f"{hashlib.sha256(b''.join(keys)).hexdigest()[:32]}{_SUFFIX}"
        write_atomically(path, content.getbuffer())
        return path

    def _merge_small(self) -> None:
        small = [file for file in self._files() if file.batch.nbytes < _SMALL_BYTES]
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
