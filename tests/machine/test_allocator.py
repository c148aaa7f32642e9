import sys

import torch

from immr.machine.allocator import empty_rows, keep_freed_memory, keep_large_buffers


def test_glibc_is_configured_and_other_allocators_are_left_alone():
    for keep in (keep_freed_memory, keep_large_buffers):
        assert keep() in ((True, False) if sys.platform.startswith("linux") else (False,))


def test_rows_are_ordinary_tensors_of_any_size():
    for count in (0, 3, 40_000):
        rows = empty_rows(count, 128).fill_(2.0)
        assert rows.shape == (count, 128) and rows.dtype == torch.float32 and rows.is_contiguous()
        assert rows.sum().item() == 256.0 * count
