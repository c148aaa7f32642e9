"""Tells the system which parts of mapped files are read next.

Otherwise it reads 128 KiB around every page that is missing: a step that reads rows of 5 KiB in random order would
read twenty times as much as it needs, one row after the other.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
from collections.abc import Callable

import numpy as np
import numpy.typing as npt


def read_ahead(content_B: npt.NDArray[np.uint8]) -> None:
    """Start to read a part of a mapped file into memory, exactly this part, and do not wait for it."""
    if not len(content_B) or not (advise := _madvise()):
        return
    start = content_B.ctypes.data
    page = start - start % mmap.PAGESIZE
    advise(page, start + len(content_B) - page, mmap.MADV_WILLNEED)


@functools.cache
def _madvise() -> Callable[[int, int, int], int] | None:
    """madvise(2), where the system has it; errors do not matter."""
    if not hasattr(mmap, "MADV_WILLNEED"):
        return None
    function = ctypes.CDLL(None).madvise
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return lambda start, length, advice: int(function(start, length, advice))
