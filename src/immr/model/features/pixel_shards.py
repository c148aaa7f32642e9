"""Decoded pictures in tar files, on a disk or in an object store, read one by one as ranges of bytes.

A shard holds pictures as `.npy` members, named as WebDataset expects. Its index is written after it and says where
each picture starts, so any picture is one request, in any order, and a reader needs no disk. A shard without an
index, or of another size than its index says, is not read; its pictures are stored again.

Shapes: N rows that a reader wants, M stored pictures, H and W a picture's own size.
"""

from __future__ import annotations

import errno
import hashlib
import io
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.fs as fs

from immr.data.sources.locations import Location
from immr.errors import TrainingError
from immr.storage.atomic import write_atomically
from immr.types import ByteArray

T = TypeVar("T")

_SHARD, _INDEX = ".tar", ".index"
_SCHEMA = pa.schema(
    {
        "key": pa.binary(32),
        "offset": pa.int64(),  # of the first pixel in the shard
        "height": pa.int64(),
        "width": pa.int64(),
        "crc": pa.int64(),
    }
)
_BYTES = b"bytes"  # of the shard, in the index's metadata
_CHANNELS = 3
_READERS = 24  # pyarrow's S3 client has 25 connections
_OPEN_FILES = 64  # on a disk; objects in a store take no file handle


class _Index(NamedTuple):
    """All stored pictures, sorted by key."""

    names: list[str]  # of shards
    keys_M: npt.NDArray[np.bytes_]
    shards_M: npt.NDArray[np.int64]  # numbers of names
    places_M4: npt.NDArray[np.int64]  # offset, height, width, checksum

    @classmethod
    def of(cls, tables: Mapping[str, pa.Table]) -> _Index:
        keys_M = _values(tables, "key", "S32")
        order_M = keys_M.argsort(kind="stable")
        shards_M = np.repeat(np.arange(len(tables)), [len(table) for table in tables.values()])
        places_M4 = np.stack([_values(tables, name, "i8") for name in _SCHEMA.names[1:]], axis=1)
        return cls(list(tables), keys_M[order_M], shards_M[order_M], places_M4[order_M])

    def rows(self, keys: Sequence[str]) -> npt.NDArray[np.int64]:
        """(N,) where each key is, −1 if it is not stored."""
        wanted_N = np.array([bytes.fromhex(key) for key in keys], "S32")
        if not len(self.keys_M):
            return np.full(len(keys), -1)
        at_N = np.searchsorted(self.keys_M, wanted_N).clip(max=len(self.keys_M) - 1)
        return np.where(self.keys_M[at_N] == wanted_N, at_N, -1)


class ShardStore:
    """Pictures by the SHA-256 of their file, in a folder that many processes read and write."""

    def __init__(self, folder: Location):
        self.folder = folder
        self._tables: dict[str, pa.Table] = {}
        self._pool = ThreadPoolExecutor(_READERS)

    def add(self, entries: Mapping[str, ByteArray]) -> None:
        """Write a shard with these pictures, (H, W, 3).

        Raises:
            TrainingError: the folder cannot be written.
        """
        if not entries:
            return
        name = hashlib.sha256("".join(sorted(entries)).encode()).hexdigest()[:32]
        content, index = _packed(entries)
        serialized = pa.BufferOutputStream()
        with pa.ipc.new_stream(serialized, index.schema) as writer:
            writer.write_table(index)
        self._write(name + _SHARD, content)
        self._write(name + _INDEX, memoryview(serialized.getvalue()))

    def has(self, keys: Sequence[str]) -> set[str]:
        """The keys that are stored now; reads no pictures.

        Raises:
            TrainingError: the folder cannot be read.
        """
        rows_N = self._index().rows(keys)
        return {key for key, row in zip(keys, rows_N.tolist(), strict=True) if row >= 0}

    def rows(self, keys: Sequence[str]) -> ShardedPixels:
        """These pictures; each is read when it is taken.

        Raises:
            KeyError: with the keys that are not stored.
            TrainingError: the folder cannot be read.
        """
        index = self._index()
        rows_N = index.rows(keys)
        if lost := [key for key, row in zip(keys, rows_N.tolist(), strict=True) if row < 0]:
            raise KeyError(*lost)
        return ShardedPixels(
            self.folder, index.names, index.shards_M[rows_N], index.places_M4[rows_N], self._pool
        )

    def _index(self) -> _Index:
        """Of the shards that are complete; only new indexes are read."""
        selector = fs.FileSelector(self.folder.path, allow_not_found=True)
        found = _attempt(self.folder, "read", lambda: self.folder.filesystem.get_file_info(selector))
        sizes = {info.base_name: info.size for info in found}
        names = sorted(name.removesuffix(_INDEX) for name in sizes if name.endswith(_INDEX))
        complete = [name for name in names if name + _SHARD in sizes]
        new = [name for name in complete if name not in self._tables]
        self._tables |= dict(zip(new, self._pool.map(self._table, new), strict=True))
        return _Index.of(
            {
                name: self._tables[name]
                for name in complete
                if int(self._tables[name].schema.metadata[_BYTES]) == sizes[name + _SHARD]
            }
        )

    def _table(self, name: str) -> pa.Table:
        place = self.folder / (name + _INDEX)

        def read() -> pa.Table:
            with place.filesystem.open_input_stream(place.path) as file:
                return pa.ipc.open_stream(file.read()).read_all()

        return _attempt(place, "read", read)

    def _write(self, name: str, content: memoryview) -> None:
        place = self.folder / name

        def write() -> None:
            if place.local:
                write_atomically(place.local, content)
                return
            with place.filesystem.open_output_stream(place.path) as file:
                file.write(content)

        _attempt(place, "written", write)


class ShardedPixels:
    """N pictures in shards."""

    read_ahead = True

    def __init__(
        self,
        folder: Location,
        names: Sequence[str],
        shards_N: npt.NDArray[np.int64],
        places_N4: npt.NDArray[np.int64],
        pool: ThreadPoolExecutor,
    ):
        """Open no shard yet.

        Args:
            folder: of the shards.
            names: of the shards.
            shards_N: which of `names` holds each picture.
            places_N4: offset, height, width and checksum.
            pool: its threads send the requests.
        """
        self._folder, self._names, self._pool = folder, names, pool
        self._shards_N, self._places_N4 = shards_N, places_N4
        self._opened = lru_cache(_OPEN_FILES if folder.local else None)(self._open)

    def take(self, rows: Sequence[int]) -> list[ByteArray]:
        """The pictures of these rows, (H, W, 3), requested in parallel.

        Raises:
            TrainingError: a shard is missing, damaged or cannot be read.
        """
        return list(self._pool.map(self._picture, rows))

    def _open(self, shard: int) -> Any:
        place = self._place(shard)
        return _attempt(place, "read", lambda: place.filesystem.open_input_file(place.path))

    def _place(self, shard: int) -> Location:
        return self._folder / (self._names[shard] + _SHARD)

    def _picture(self, row: int) -> ByteArray:
        shard = int(self._shards_N[row])
        offset, height, width, checksum = self._places_N4[row].tolist()
        file = self._opened(shard)
        size = height * width * _CHANNELS
        content = _attempt(self._place(shard), "read", lambda: file.read_at(size, offset))
        if len(content) != size or zlib.crc32(content) != checksum:
            raise TrainingError(
                f"{self._place(shard).uri} is damaged (wrong checksum at byte {offset}): delete it and train "
                "again, which decodes its pictures again and resumes"
            )
        return np.frombuffer(content, np.uint8).reshape(height, width, _CHANNELS)


def _packed(entries: Mapping[str, ByteArray]) -> tuple[memoryview, pa.Table]:
    """A shard's content and its index."""
    content, rows = io.BytesIO(), []
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for key in sorted(entries):
            picture = np.ascontiguousarray(entries[key], np.uint8)
            file = io.BytesIO()
            np.save(file, picture, allow_pickle=False)
            member = tarfile.TarInfo(f"{key}.npy")
            member.size = file.tell()
            pixels = tar.offset + tarfile.BLOCKSIZE + member.size - picture.nbytes
            file.seek(0)
            tar.addfile(member, file)
            height, width = picture.shape[:2]
            rows.append((bytes.fromhex(key), pixels, height, width, zlib.crc32(picture.data)))
    columns = dict(zip(_SCHEMA.names, zip(*rows, strict=True), strict=True))
    buffer = content.getbuffer()
    return buffer, pa.table(columns, _SCHEMA.with_metadata({_BYTES: str(len(buffer))}))


def _values(tables: Mapping[str, pa.Table], name: str, dtype: str) -> npt.NDArray[Any]:
    """A column of all tables; pyarrow's `to_numpy` would import pandas, which takes half a second."""
    width = np.dtype(dtype).itemsize
    parts = [
        np.frombuffer(chunk.buffers()[1], dtype, len(chunk), chunk.offset * width)
        for table in tables.values()
        for chunk in table.column(name).chunks
    ]
    return np.concatenate([np.empty(0, dtype), *parts])


def _attempt(place: Location, done: str, action: Callable[[], T]) -> T:
    try:
        return action()
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or error
        raise TrainingError(
            f"{place.uri} cannot be {done} ({reason}): {_remedy(place, done, error)}"
        ) from error


def _remedy(place: Location, done: str, error: Exception) -> str:
    number = getattr(error, "errno", None)
    if isinstance(error, FileNotFoundError) and done == "read":
        return "it was deleted meanwhile; train again, which decodes its pictures again and resumes"
    if isinstance(error, pa.ArrowInvalid):
        return "it is damaged; delete it and train again, which decodes its pictures again and resumes"
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "free some space there, or set IMMR_PIXELS_URL to another folder"
    if place.local:
        return "check its permissions, or set IMMR_PIXELS_URL to another folder"
    return "check IMMR_PIXELS_URL and the credentials (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, …)"
