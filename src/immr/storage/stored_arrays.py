"""Arrays that were found in files, and are read when they are needed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from immr.errors import DataError
from immr.storage.array_file import ArrayFile

_log = logging.getLogger(__name__)


class StoredArrays:
    """N arrays of an `ArrayStore`: where each is takes 8 bytes of memory. Some may be missing."""

    def __init__(
        self,
        files: Sequence[ArrayFile],
        file_N: npt.NDArray[np.int32],
        row_N: npt.NDArray[np.int32],
        dtype: npt.DTypeLike,
    ) -> None:
        """Say where they are.

        Args:
            files: mapped.
            file_N: the file of each array, −1 if it is missing.
            row_N: its row there.
            dtype: of all arrays.
        """
        self.there_N: npt.NDArray[np.bool_] = file_N >= 0
        self._files, self._file_N, self._row_N, self._dtype = files, file_N, row_N, dtype

    def lengths(self) -> npt.NDArray[np.int64]:
        """(N,) the first number of each array's shape; 0 for a missing one."""
        lengths_N = np.zeros(len(self._file_N), np.int64)
        by_file_N = self._file_N.argsort(kind="stable")
        by_file_N = by_file_N[np.count_nonzero(~self.there_N) :]
        starts = np.flatnonzero(np.diff(self._file_N[by_file_N])) + 1
        for here_M in np.split(by_file_N, starts) if len(by_file_N) else ():
            lengths_N[here_M] = self._files[self._file_N[here_M[0]]].lengths(self._row_N[here_M])
        return lengths_N

    def read_ahead(self, numbers: Iterable[int]) -> None:
        """Start to read some arrays, for a `read` of each soon."""
        for number in numbers:
            if self.there_N[number]:
                self._files[self._file_N[number]].read_ahead(int(self._row_N[number]))

    def read(self, number: int) -> npt.NDArray[Any]:
        """A read-only view into the file of an array that is not missing.

        Raises:
            DataError: the file is broken. It is deleted, so that its arrays are computed again.
        """
        file = self._files[self._file_N[number]]
        try:
            array: npt.NDArray[Any] = file.array(int(self._row_N[number]), self._dtype)
            return array
        except ValueError as error:
            _log.warning("deleting the broken cache file %s; its entries are computed again", file.path)
            file.path.unlink(missing_ok=True)
            raise DataError(
                f"the cache file {file.path} was broken and is deleted: run the step again"
            ) from error
