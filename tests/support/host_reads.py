"""Counts the operations that make the host wait for a GPU, on a machine without one."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

READS = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "unique_dim",
    "_unique",
    "_unique2",
    "unique_consecutive",
    "repeat_interleave",
    "is_nonzero",
    "equal",
    "bincount",
}
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}


class _Counter(TorchDispatchMode):
    """Kernels whose result or size the host has to know."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in _INDEXING and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if (name in READS or by_mask) and not _is_step_counter():
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def _is_step_counter() -> bool:
    """Whether torch's optimizers read their number of steps, which they keep on the host."""
    return any("/torch/optim/" in frame.filename for frame in traceback.extract_stack())


@contextmanager
def counted(monkeypatch: Any) -> Iterator[list[str]]:
    """The names of all host reads in the block.

    `tolist` and `cpu` of a CPU tensor call no kernel, so they are patched.
    """
    counter = _Counter()
    with monkeypatch.context() as patch:
        for name in ("tolist", "cpu"):
            original = getattr(torch.Tensor, name)

            def reading(self: Any, *args: Any, name: str = name, original: Any = original) -> Any:
                counter.found.append(name)
                return original(self, *args)

            patch.setattr(torch.Tensor, name, reading)
        with counter:
            yield counter.found
