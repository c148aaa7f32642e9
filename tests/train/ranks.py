"""Process groups as torchrun forms them, without torchrun."""

import os
import socket
import subprocess
import sys

import torch


def free_port() -> int:
    """A port for the ranks' rendezvous."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def start(module: str, size: int, *arguments: str) -> list[subprocess.Popen[bytes]]:
    """Run `python -m module arguments` as each of `size` gloo ranks."""
    environment = os.environ | {
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, "-m", module, *arguments]
    return [subprocess.Popen(command, env=environment | {"RANK": str(rank)}) for rank in range(size)]


def finish(processes: list[subprocess.Popen[bytes]]) -> None:
    """Wait until all have ended; after a failure the others are killed.

    Raises:
        RuntimeError: a rank failed.
    """
    try:
        codes = [process.wait(280) for process in processes]
        if any(codes):
            raise RuntimeError(f"the ranks ended with {codes}: see their output above")
    finally:
        for process in processes:
            process.kill()


def answers(folder, size):
    """What each rank left as <size>-<rank>.pt."""
    return [torch.load(folder / f"{size}-{rank}.pt", weights_only=False) for rank in range(size)]
