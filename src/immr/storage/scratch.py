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
