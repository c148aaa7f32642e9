"""How many cores this process may use: in a container fewer than the machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def usable(cgroup: Path = _CGROUP) -> int:
    """At least 1: the cores we may run on, and no more than the container's CPU limit is worth, rounded up.

    `os.cpu_count()` tells the node's, and a thread for each would fight over the few that the limit leaves.
    """
    return max(1, min(_allowed(), _limit(cgroup)))


def _allowed() -> int:
    """Linux can bind a process to a part of the cores; elsewhere it has all of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _limit(cgroup: Path) -> int:
    """Of control groups, version 2 or 1 (https://docs.kernel.org/admin-guide/cgroup-v2.html, `cpu.max`)."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            quota, period = "max", "1"
    unlimited = quota in ("max", "-1")
    return os.cpu_count() or 1 if unlimited else math.ceil(int(quota) / int(period))
