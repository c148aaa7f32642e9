"""Checks that a step fits this machine: its estimated needs against what is free."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from immr.errors import CapacityError

GIB = 2**30
TooLarge = Literal["refuse", "warn"]
_ALWAYS_TRIED = 2 * GIB  # of memory: below this, other programs matter more
_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Need:
    """The memory and disk that a step needs.

    Attributes:
        memory_bytes: Peak of all its processes, without mapped files.
        disk_bytes: Added below IMMR_HOME.
        counts: The basis of the estimate: "6,000 photos and 4,000 items".
        way_out: How to reduce it: "turn clean_labels off".
    """

    memory_bytes: float
    disk_bytes: float
    counts: str
    way_out: str


def check(step: str, need: Need, folder: Path, too_large: TooLarge = "refuse") -> None:
    """Refuse a step that needs more memory or disk than is free, before it starts.

    Args:
        step: Its name.
        need: What it needs.
        folder: Where it writes; it may not exist yet.
        too_large: With "warn" the step runs anyway, and the log names the figures.

    Raises:
        CapacityError: The step does not fit; the message gives the figures and the way out.
    """
    free = {"memory": free_memory(), "disk": free_disk(folder)}
    memory = need.memory_bytes if need.memory_bytes > _ALWAYS_TRIED else 0
    needed = {"memory": memory, "disk": need.disk_bytes}
    missing = [
        f"about {needed[kind] / GIB:.1f} GiB of {kind}, and {there / GIB:.1f} GiB are free"
        for kind, there in free.items()
        if there is not None and needed[kind] > there
    ]
    if not missing:
        return
    found = f"{step} of {need.counts} needs {'; '.join(missing)}"
    if too_large == "warn":
        _log.warning("%s", found)
        return
    raise CapacityError(
        f"{found}: {need.way_out}, or use a larger machine. To try anyway, set IMMR_TOO_LARGE=warn"
    )


def free_memory(cgroup: Path = _CGROUP, meminfo: Path = _MEMINFO) -> int | None:
    """Bytes that can be allocated without swapping: of the machine, or of the container if that is less.

    None where the system has no /proc/meminfo.
    """
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        machine = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    try:
        limit, used = ((cgroup / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        statistics = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        if limit == "max":
            return machine
        return min(machine, int(limit) - int(used) + int(statistics["inactive_file"]))
    except (OSError, KeyError, ValueError):  # no container, or cgroups v1
        return machine


def memory(cgroup: Path = _CGROUP) -> int:
    """Bytes of memory: the container's limit, or the machine's if that is less."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(machine, int((cgroup / "memory.max").read_text()))
    except (OSError, ValueError):  # no container, no limit ("max"), or cgroups v1
        return machine


def free_disk(folder: Path) -> int:
    """Bytes free for us on the file system of a folder, or of its nearest parent that exists."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free
