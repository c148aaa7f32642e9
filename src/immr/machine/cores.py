"""The number of cores this process may use, which in a container is fewer than the machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def usable(cgroup: Path = _CGROUP) -> int:
    """Cores in our affinity mask, capped by the container's CPU limit rounded up; at least 1.

    `os.cpu_count()` counts the node's cores; that many threads would compete for the few of the container.
    """
    return max(1, min(_allowed(), _limit(cgroup)))


def _allowed() -> int:
    """The affinity mask on Linux, all cores elsewhere."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _limit(cgroup: Path) -> int:
    """The CPU limit of cgroups v2 (`cpu.max`) or v1 (https://docs.kernel.org/admin-guide/cgroup-v2.html)."""
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
