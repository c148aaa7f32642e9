"""What a PyTorchJob and its pods say of themselves (JSON as the API gives it)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from immr.launch.launcher import TrainingJob
from immr.launch.pytorchjob import MANAGED_BY


def is_ours(there: Mapping[str, Any]) -> bool:
    """Whether IMMR made it."""
    return bool(there["metadata"].get("labels", {}).get(MANAGED_BY[0]) == MANAGED_BY[1])


def useless(there: Mapping[str, Any], job: TrainingJob) -> str:
    """Why a job that is there is no use to wait for; empty where it is."""
    if condition(there, "Failed"):
        return "has failed"
    if condition(there, "Succeeded") and job.out is not None and not job.out.exists():
        return f"has succeeded, but what it made ({job.out}) is gone"
    return ""


def condition(there: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    """The condition of that kind, where it holds."""
    conditions: list[Mapping[str, Any]] = there.get("status", {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == kind and one["status"] == "True"), None)


def leader(pods: list[dict[str, Any]]) -> str | None:
    """The pod that logs for all: the master, or worker 0 where there is none; None before it runs."""
    started = [pod for pod in pods if pod.get("status", {}).get("phase") not in (None, "Pending")]
    names = sorted(str(pod["metadata"]["name"]) for pod in started)
    return next((name for name in names if name.endswith(("-master-0", "-worker-0"))), None)
