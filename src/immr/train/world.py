"""The processes that train together: the one place where torchrun's environment is read."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch.distributed as dist

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class World:
    """This process's place among `size` processes."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """The one process that writes and logs."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until all are here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def world_from_environment() -> Iterator[World]:
    """Join the others if torchrun started us, else be alone; leave at the end."""
    world = World(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    if world.size == 1:
        yield world
        return
    _end_with_parent()
    dist.init_process_group("gloo", rank=world.rank, world_size=world.size)
    try:
        yield world
    finally:
        dist.destroy_process_group()


def _end_with_parent() -> None:
    # torchrun puts us into a session of our own: should it be killed hard, no one else would end us
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
