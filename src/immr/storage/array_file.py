"""One immutable Arrow file of arrays, mapped into memory."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from immr.storage import page_cache

SCHEMA = pa.schema(
    {"key": pa.binary(32), "shape": pa.list_(pa.int32()), "crc": pa.uint32(), "values": pa.large_binary()}
)
_SMALL_BYTES = 8 << 20


@dataclass(frozen=True)
class ArrayFile:
    """The columns of a file as numpy arrays, because pyarrow takes microseconds for each value.

    Shapes: N entries, S numbers in all their shapes, B bytes.
    """

    path: Path
    is_small: bool
    keys_N: npt.NDArray[np.bytes_]  # sorted
    _shape_start_N: npt.NDArray[np.int32]  # and the end, N + 1
    _shapes_S: npt.NDArray[np.int32]
    _crc_N: npt.NDArray[np.uint32]
    _start_N: npt.NDArray[np.int64]  # and the end, N + 1
    _content_B: npt.NDArray[np.uint8]
    _is_checked_N: npt.NDArray[np.bool_]

    @classmethod
    def open(cls, path: Path) -> ArrayFile:
        """Map a file.

        Raises:
            FileNotFoundError: there is none.
            pa.ArrowInvalid: it is truncated, or something else.
        """
        batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        count, (keys, shapes, crcs, values) = len(batch), batch.columns
        return cls(
            path,
            batch.nbytes < _SMALL_BYTES,
            np.frombuffer(keys.buffers()[1], "S32", count),
            np.frombuffer(shapes.buffers()[1], np.int32, count + 1),
            np.frombuffer(shapes.values.buffers()[1] or b"", np.int32),
            np.frombuffer(crcs.buffers()[1], np.uint32, count),
            np.frombuffer(values.buffers()[1], np.int64, count + 1),
            np.frombuffer(values.buffers()[2] or b"", np.uint8),
            np.zeros(count, bool),
        )

    def rows(self, wanted_M: npt.NDArray[np.bytes_]) -> npt.NDArray[np.int64]:
        """(M,) the row of each wanted key, −1 where it is not here."""
        at_M = np.searchsorted(self.keys_N, wanted_M).clip(max=len(self.keys_N) - 1)
        return np.where(self.keys_N[at_M] == wanted_M, at_M, -1)

    def lengths(self, rows_M: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """(M,) the first number of the shapes of the arrays in these rows."""
        return self._shapes_S[self._shape_start_N[rows_M]]

    def read_ahead(self, row: int) -> None:
        """Start to read the array in a row."""
        page_cache.read_ahead(self._content_B[self._start_N[row] : self._start_N[row + 1]])

    def array(self, row: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """A read-only view into the file, whose checksum is compared the first time.

        Raises:
            ValueError: the checksum does not match.
        """
        content = self._content_B[self._start_N[row] : self._start_N[row + 1]]
        if not self._is_checked_N[row]:
            if zlib.crc32(content.data) != self._crc_N[row]:
                raise ValueError("wrong checksum")
            self._is_checked_N[row] = True
        shape = self._shapes_S[self._shape_start_N[row] : self._shape_start_N[row + 1]]
        array: npt.NDArray[Any] = content.view(dtype).reshape(shape.tolist())
        return array
