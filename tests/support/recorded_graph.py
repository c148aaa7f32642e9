"""A CUDA graph on the CPU: repeats recorded operations on the same tensors, with the numbers of the recording.

What a CUDA graph would keep and should not, such as a seed or a rate on the host, is kept here as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from triton.runtime.interpreter import GridExecutor

from tests.support.host_reads import READS

_launch = GridExecutor.__call__


class RecordedGraph(TorchDispatchMode):
    """Records torch's operations and launches of interpreted Triton kernels."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[Callable[[], None]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket.__name__ not in READS, f"{func} is read by the host"
        found = func(*args, **(kwargs or {}))

        def again() -> None:
            for kept, new in zip(tree_leaves(found), tree_leaves(func(*args, **(kwargs or {}))), strict=True):
                if isinstance(kept, Tensor) and kept.data_ptr() != new.data_ptr():
                    kept.copy_(new)

        self._calls.append(again)
        return found

    def launch(self, executor: Any, *args: Any, **kwargs: Any) -> None:
        """In place of a launch, which a recording does not run."""
        self._calls.append(lambda: _launch(executor, *args, **kwargs))

    @torch.no_grad()
    def replay(self) -> None:
        """Repeat the calls."""
        for call in self._calls:
            call()


def recorder(monkeypatch: Any) -> Callable[[Callable[[], None]], RecordedGraph]:
    """For `make_classifier`."""

    def record(work: Callable[[], None]) -> RecordedGraph:
        graph = RecordedGraph()
        with monkeypatch.context() as patch:
            patch.setattr(GridExecutor, "__call__", lambda *args, **kwargs: graph.launch(*args, **kwargs))
            with graph:
                work()
        return graph

    return record
