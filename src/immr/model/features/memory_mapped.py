"""Large float16 arrays, in memory or in a file that several processes map."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

HalfArray = npt.NDArray[np.float16]


def filled(shape: tuple[int, ...], fill: Callable[[HalfArray], None], file: Path | None = None) -> HalfArray:
    """An array of this shape after `fill` has written it.

    Args:
        shape: Of the array.
        fill: Writes all of it, block by block.
        file: A `.npy` file to keep the array in. It is mapped, and `fill` is not called if it exists; writing to
            the result does not change it.
    """
    if file is None or 0 in shape:
        array: HalfArray = np.zeros(shape, np.float16)
        fill(array)
        return array
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_name(f".{file.name}.{os.getpid()}")
        mapped = np.lib.format.open_memmap(aside, "w+", np.float16, shape)
        fill(mapped)
        mapped.flush()
        aside.replace(file)
    opened: HalfArray = np.load(file, mmap_mode="c")
    return opened
