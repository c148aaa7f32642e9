"""The processes that train together: the one place where torchrun's environment is read.

torchrun sets the same variables here and in the pods of a PyTorchJob, where it takes its own arguments from
the operator's PET_*; so nothing else needs to know which of the two started us.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class World:
    """This process's place among `size` processes, and what it computes on."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"  # as torch names it
    attempt: int = 0  # how often torchrun has started all of us again

    @property
    def leads(self) -> bool:
        """The one process that writes and logs."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until all are here."""
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier()

    def agree(self, value: T) -> T:
        """The leader's value, on all ranks: for what a rank might see otherwise, like a shared folder."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box)
        return box[0]


def attempt(environment: Mapping[str, str] = os.environ) -> int:
    """How often torchrun has started this job's processes again; 0 without torchrun."""
    return int(environment.get("TORCHELASTIC_RESTART_COUNT", "0"))


@contextmanager
def world_from_environment() -> Iterator[World]:
    """Join the others if torchrun started us, else be alone; leave at the end.

    A GPU of our own (NCCL) where the machine has them, the CPU (gloo) where not.
    """
    import torch
    import torch.distributed as dist

    environment = os.environ
    device = "cpu"
    if torch.cuda.is_available():
        device = f"cuda:{environment.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    rank, size = int(environment.get("RANK", "0")), int(environment.get("WORLD_SIZE", "1"))
    world = World(rank, size, device, attempt())
    if world.size == 1:
        yield world
        return
    _end_with_parent()
    # gloo beside NCCL: checkpoints and agreements speak of objects, which lie on the CPU
    backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, rank=world.rank, world_size=world.size)
    try:
        yield world
    finally:
        dist.destroy_process_group()


def _end_with_parent() -> None:
    # torchrun puts us into a session of our own: should it be killed hard, no one else would end us
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
