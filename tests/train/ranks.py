"""Process groups as torchrun forms them, without torchrun: forks of one process, so that torch is imported once."""

import importlib
import os
import runpy
import signal
import socket
import subprocess
import sys
import traceback
from contextlib import suppress

import torch


def free_port() -> int:
    """A port for the ranks' rendezvous."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def run(module: str, size: int, *arguments: str, on_gpus: bool = False) -> None:
    """Run `python -m module arguments` as each of `size` ranks, until all have ended.

    Args:
        module: has `if __name__ == "__main__"`.
        size: number of ranks.
        arguments: of the module.
        on_gpus: NCCL ranks with a GPU each, instead of gloo ranks on CPUs.

    Raises:
        CalledProcessError: a rank failed; the others were killed.
    """
    environment = os.environ | {
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        # otherwise the parent's look for GPUs would keep its forks from using them
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    }
    if not on_gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    command = [sys.executable, "-m", "tests.train.ranks", module, *arguments]
    # in a session of their own, so that no rank survives its parent
    with subprocess.Popen(command, env=environment, start_new_session=True) as parent:
        try:
            code = parent.wait(280)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)
    if code:
        raise subprocess.CalledProcessError(code, command)


def answers(folder, size):
    """What each rank left as <size>-<rank>.pt."""
    return [torch.load(folder / f"{size}-{rank}.pt", weights_only=False) for rank in range(size)]


def _rank(rank: int, module: str, arguments: list[str]) -> int:
    """One rank, in a fork; its exit code."""
    os.environ["RANK"] = os.environ["LOCAL_RANK"] = str(rank)
    sys.argv = [module, *arguments]
    del sys.modules[module]  # to run it as the main module
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except BaseException:
        traceback.print_exc()
        return 1
    sys.stdout.flush()
    return 0


def _main(module: str, *arguments: str) -> None:
    importlib.import_module(module)
    importlib.import_module("torch._dynamo")  # as torch's optimizers do at their first use: 2 s for each rank
    running = set()
    for rank in range(int(os.environ["WORLD_SIZE"])):
        if not (child := os.fork()):
            os._exit(_rank(rank, module, list(arguments)))
        running.add(child)
    while running:
        child, status = os.wait()
        running.discard(child)
        if status:
            for other in running:
                os.kill(other, signal.SIGKILL)
            raise SystemExit(f"a rank ended with {os.waitstatus_to_exitcode(status)}: see its output above")


if __name__ == "__main__":
    _main(*sys.argv[1:])
