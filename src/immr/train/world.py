"""The processes that train together: the only place that reads torchrun's environment.

torchrun sets the same variables on a laptop and in the pods of a PyTorchJob, where it reads its own arguments
from the operator's PET_* variables. So nothing else depends on who started the processes.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from immr.errors import TrainingError
from immr.machine.wording import counted

T = TypeVar("T")

_PR_SET_PDEATHSIG = 1
_LONGEST_WAIT = timedelta(hours=12)
"""At a barrier, where the leader embeds the class photos of a finished version alone, or a rank has slower files.

torch's half an hour would end such a run; it stays the limit of all other collectives.
"""


@dataclass(frozen=True)
class World:
    """This process's rank among `size` processes, and its device."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"  # as torch names it
    attempt: int = 0  # how often torchrun has restarted all processes

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and logs."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier(timeout=_LONGEST_WAIT)

    def agree(self, value: T) -> T:
        """The leader's value on all ranks, for state that ranks may see differently, such as a shared folder."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """Every rank's value, in the order of the ranks, on all ranks."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        box: list[Any] = [None] * self.size
        dist.all_gather_object(box, value)
        return box


def attempt(environment: Mapping[str, str] = os.environ) -> int:
    """How often torchrun has restarted this job; 0 without torchrun."""
    return int(environment.get("TORCHELASTIC_RESTART_COUNT", "0"))


def gpu_of(local_rank: int, gpus: int) -> str:
    """The GPU of a process, by its number among those of the machine.

    Raises:
        TrainingError: there are more processes than GPUs.
    """
    if local_rank >= gpus:
        raise TrainingError(
            f"this machine has {counted(gpus, 'GPU')}, and process {local_rank + 1} has none: set the recipe's "
            "processes to at most one for each GPU, or set CUDA_VISIBLE_DEVICES to nothing to train on CPUs"
        )
    return f"cuda:{local_rank}"


@contextmanager
def world_from_environment() -> Iterator[World]:
    """Join the process group if torchrun started this process, and leave it at the end.

    The device is the GPU of this local rank (NCCL) if there are GPUs, else the CPU (gloo).

    Raises:
        TrainingError: there are more processes on this machine than GPUs.
    """
    import torch
    import torch.distributed as dist

    environment = os.environ
    device = "cpu"
    if torch.cuda.is_available():
        device = gpu_of(int(environment.get("LOCAL_RANK", "0")), torch.cuda.device_count())
        torch.cuda.set_device(device)
    rank, size = int(environment.get("RANK", "0")), int(environment.get("WORLD_SIZE", "1"))
    world = World(rank, size, device, attempt())
    if world.size == 1:
        yield world
        return
    _end_with_parent()
    # gloo next to NCCL: checkpoints and `agree` exchange objects, which are on the CPU
    backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, rank=world.rank, world_size=world.size)
    try:
        yield world
    finally:
        dist.destroy_process_group()


def _end_with_parent() -> None:
    # torchrun starts workers in their own session: if it is killed, nothing else would stop them
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
