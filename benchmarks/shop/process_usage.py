"""Runs a command in a separate process and measures seconds, CPU, and the memory of its process tree."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

SAMPLED_EVERY_S = 0.1
GIB = 2**30


@dataclass
class Used:
    """What a command used. `peak_gib` counts files mapped into memory; `own_gib` only what it allocated."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_gib: float = 0.0
    own_gib: float = 0.0


def run(
    command: Sequence[str], environment: Mapping[str, str], log: Path, may_exit: Sequence[int] = (0,)
) -> Used:
    """Run `python <command>` to its end.

    Raises:
        SystemExit: it exits with another code than `may_exit`; the message ends with its last lines.
    """
    with running(command, environment, log) as (process, used):
        code = process.wait()
    if code not in may_exit:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        sys.exit(f"`python {' '.join(command)}` exited with {code} after {used.seconds:.0f} s:\n{tail}")
    return used


@contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], log: Path
) -> Iterator[tuple[subprocess.Popen[bytes], Used]]:
    """The process during the block, and what it has used once the block has ended; it is interrupted there."""
    used, began, before = Used(), time.perf_counter(), os.times()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        ended = threading.Event()
        sampler = threading.Thread(target=_sample, args=(process.pid, used, ended))
        sampler.start()
        try:
            yield process, used
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
            ended.set()
            sampler.join()
    after = os.times()
    used.seconds = time.perf_counter() - began
    used.cpu_seconds = sum(after[2:4]) - sum(before[2:4])  # of children that have ended


def cpu_seconds_of(pid: int) -> float:
    """What a running process and those below it have used until now."""
    root = psutil.Process(pid)
    times = [one.cpu_times() for one in (root, *root.children(recursive=True))]
    return sum(used.user + used.system for used in times)


def disk_gib(folder: Path) -> float:
    """What the files below a folder take on disk."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*")) / GIB


def _sample(pid: int, used: Used, ended: threading.Event) -> None:
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        while not ended.wait(SAMPLED_EVERY_S):
            sizes = [size for one in (root, *root.children(recursive=True)) if (size := _memory(one))]
            used.peak_gib = max(used.peak_gib, sum(size.rss for size in sizes) / GIB)
            used.own_gib = max(used.own_gib, sum(size.rss - size.shared for size in sizes) / GIB)


def _memory(process: psutil.Process) -> Any:
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return process.memory_info()
    return None
