"""Processes identified by a mark in their environment, even if they changed group or lost their parent."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]

MARK = "IMMR_STARTED_BY"


def mark(folder: Path, name: str) -> str:
    """The mark of processes that this process starts for a folder under a name."""
    return f"{folder.absolute()}|{os.getpid()}|{psutil.Process().create_time():.2f}|{name}"


def stop(wanted: str, timeout_s: float) -> None:
    """Stop every process with this mark: SIGTERM, then SIGKILL after the timeout."""
    _terminate(_marked(wanted))
    deadline = time.monotonic() + timeout_s
    while _marked(wanted) and time.monotonic() < deadline:
        time.sleep(0.1)
    # repeated, as a supervisor may start a worker in between
    while left := _marked(wanted):
        for process in left:
            _send(process, "kill")
        time.sleep(0.02)


def stop_orphans(folder: Path, timeout_s: float) -> int:
    """Stop processes for this folder whose starter was killed; returns their number."""
    orphans = {
        process_mark
        for process in psutil.process_iter()
        if (process_mark := _mark_of(process)).startswith(f"{folder.absolute()}|")
        and not _starter_lives(process_mark)
    }
    count = sum(len(_marked(orphan)) for orphan in orphans)
    for orphan in orphans:
        stop(orphan, timeout_s)
    return count


def _marked(wanted: str) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _mark_of(process) == wanted]


def _mark_of(process: psutil.Process) -> str:
    try:
        if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
            return ""
        return str(process.environ().get(MARK, ""))
    except (psutil.Error, OSError):  # it has exited, or belongs to another user
        return ""


def _starter_lives(process_mark: str) -> bool:
    _, pid, started, _ = process_mark.rsplit("|", 3)
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" == started
    except psutil.Error:
        return False


def _terminate(processes: list[psutil.Process]) -> None:
    for process in processes:
        _send(process, "terminate")


def _send(process: psutil.Process, what: str) -> None:
    with suppress(psutil.NoSuchProcess):
        getattr(process, what)()
