"""Arrays that may not fit in memory."""

from __future__ import annotations

from tempfile import TemporaryFile

import numpy as np
import numpy.typing as npt


def scratch(shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """An array of zeros in a temporary file, which is deleted with the array.

    When memory is short, the system writes its pages to the file.
    """
    with TemporaryFile(prefix="immr-") as file:
        return np.memmap(file, np.float32, "w+", shape=shape).view(np.ndarray)


def rows_at(rows_ND: npt.NDArray[np.float32], places_M: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
    """(M, D): these rows of a large array, kept as `scratch` does."""
    out_MD = scratch((len(places_M), rows_ND.shape[1]))
    return np.take(rows_ND, places_M, axis=0, out=out_MD, mode="clip")  # other modes make a copy first
