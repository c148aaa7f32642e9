"""Memory of this process: malloc keeps freed blocks, and large tensors use huge pages (Linux)."""

from __future__ import annotations

import ctypes
import sys

import torch
from torch import Tensor

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # constants of mallopt
_NEVER_TRIM = -1
_LARGEST_KEPT = 32 << 20  # the most that glibc accepts
_KEPT = 1 << 30
_HUGE_PAGE = 2 << 20
_MADV_HUGEPAGE = 14


def keep_freed_memory() -> bool:
    """Make malloc keep freed blocks of up to 32 MiB; returns whether this is supported (glibc).

    Otherwise every step allocates fresh pages, and page faults take a fifth of the step.
    """
    mallopt = _c_function("mallopt")
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)) and bool(mallopt(_TRIM_THRESHOLD, _KEPT))


def keep_large_buffers() -> bool:
    """Make malloc keep freed blocks of any size; returns whether this is supported (glibc).

    An encoder's activations exceed 32 MiB, and returning them to the system costs a quarter of a step in page
    faults. In exchange the process stays as large as its largest step.
    """
    mallopt = _c_function("mallopt")
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER_TRIM))


def empty_rows(count: int, dim: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """An uninitialized (count, dim) tensor; if large, on huge pages, which makes random rows cheap to access."""
    rows = torch.empty(count, dim, dtype=dtype)
    size, madvise = rows.nbytes, _c_function("madvise")
    if madvise is not None and size > 4 * _HUGE_PAGE:
        start = -(-rows.data_ptr() // _HUGE_PAGE) * _HUGE_PAGE
        length = (rows.data_ptr() + size - start) // _HUGE_PAGE * _HUGE_PAGE
        # only advice: a kernel without huge pages ignores it
        madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _MADV_HUGEPAGE)
    return rows


def _c_function(name: str) -> ctypes._NamedFuncPointer | None:
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), name, None)
