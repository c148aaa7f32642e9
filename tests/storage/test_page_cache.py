"""Parts of files that are read ahead."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from immr.storage import page_cache
from immr.storage.page_cache import read_ahead

PAGES = 64


def resident(mapped_B: np.ndarray) -> list[int]:
    """The pages of a mapping that are in memory."""
    states = (ctypes.c_ubyte * PAGES)()
    library = ctypes.CDLL(None, use_errno=True)
    assert not library.mincore(ctypes.c_void_p(mapped_B.ctypes.data), ctypes.c_size_t(len(mapped_B)), states)
    return [number for number, state in enumerate(states) if state & 1]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="mincore(2) of Linux")
def test_exactly_the_pages_of_a_part_are_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(PAGES * mmap.PAGESIZE))
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    mapped_B = np.memmap(path, np.uint8, "r").view(np.ndarray)
    if resident(mapped_B):
        pytest.skip("this file system keeps files in memory")
    read_ahead(mapped_B[9 * mmap.PAGESIZE + 7 : 11 * mmap.PAGESIZE + 1])
    mapped_B[9 * mmap.PAGESIZE], mapped_B[11 * mmap.PAGESIZE]  # waits for them
    assert resident(mapped_B) == [9, 10, 11]


def test_nothing_is_asked_of_the_system_for_an_empty_part(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[tuple[int, ...]]()
    monkeypatch.setattr(page_cache, "_madvise", lambda: lambda *part: asked.append(part))
    read_ahead(np.zeros(0, np.uint8))
    assert asked == []
    read_ahead(np.zeros(1, np.uint8))
    assert len(asked) == 1
