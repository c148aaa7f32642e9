"""How the process gets its memory: freed blocks are kept, large tensors lie on huge pages (Linux)."""

from __future__ import annotations

import ctypes
import sys

import torch
from torch import Tensor

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # mallopt's names for them
_NEVER_TRIM = -1
_LARGEST_KEPT = 32 << 20  # glibc takes no more
_KEPT = 1 << 30
_HUGE_PAGE = 2 << 20
_MADV_HUGEPAGE = 14


def keep_freed_memory() -> bool:
    """Tell malloc to keep freed blocks up to 32 MiB; whether it listens (glibc does, others are left alone).

    Else a step's buffers come from fresh pages each time, and the page faults cost a fifth of the step.
    """
    mallopt = _c_function("mallopt")
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)) and bool(mallopt(_TRIM_THRESHOLD, _KEPT))


def keep_large_buffers() -> bool:
    """Tell malloc to keep freed blocks of any size; whether it listens.

    An encoder's activations are larger than 32 MiB. Given back to the system after each step they cost a
    quarter of it in page faults; kept, the process stays as large as its largest step.
    """
    mallopt = _c_function("mallopt")
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER_TRIM))


def empty_rows(count: int, dim: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """(count, dim), on huge pages if there are many: random rows are then found without a walk."""
    rows = torch.empty(count, dim, dtype=dtype)
    size, madvise = rows.nbytes, _c_function("madvise")
    if madvise is not None and size > 4 * _HUGE_PAGE:
        start = -(-rows.data_ptr() // _HUGE_PAGE) * _HUGE_PAGE
        length = (rows.data_ptr() + size - start) // _HUGE_PAGE * _HUGE_PAGE
        # advice: where the kernel has none to give, ordinary pages do
        madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _MADV_HUGEPAGE)
    return rows


def _c_function(name: str) -> ctypes._NamedFuncPointer | None:
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), name, None)
