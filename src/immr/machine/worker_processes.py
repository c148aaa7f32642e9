"""Work done ahead in forked processes, where threads would wait for each other's Python."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_MOST = 32  # processes; each holds two results ahead, in shared memory


def in_processes(work: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    """`map(work, items)`, where the next results are computed while the caller uses one.

    torch's data loader moves tensors in results through shared memory (`/dev/shm`), and pins them if there is a GPU.

    Args:
        work: must not use a GPU. The processes start now.
        items: known beforehand.
        workers: processes; with 0, or for a single item, each result is computed when it is requested.
    """
    if not workers or len(items) < 2:
        return map(work, items)
    import torch
    from torch.utils.data import DataLoader

    loader: Any = DataLoader(
        _Results(work, items),  # type: ignore[arg-type]
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=min(workers, _MOST, len(items)),
        multiprocessing_context="fork",  # another start would import everything again in each
        pin_memory=torch.cuda.is_available(),
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
        results: Iterator[R] = iter(loader)
    return results


class _Results(Generic[T, R]):
    """A data set by torch's protocol."""

    def __init__(self, work: Callable[[T], R], items: Sequence[T]):
        self._work, self._items = work, items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, number: int) -> R:
        return self._work(self._items[number])


def _as_it_is(result: R) -> R:
    return result
