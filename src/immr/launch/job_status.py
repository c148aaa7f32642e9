"""What the status of a PyTorchJob and its pods means (JSON as the API returns it)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from immr.cluster.objects import condition
from immr.cluster.pod_problems import NOT_CREATED, PodProblem
from immr.launch.launcher import TrainingJob


def reason_to_replace(there: Mapping[str, Any], job: TrainingJob) -> str:
    """Why waiting for an existing job is pointless; empty if it is not."""
    if condition(there, "Failed"):
        return "has failed"
    if condition(there, "Succeeded") and job.out is not None and not job.out.exists():
        return f"has succeeded, but its output {job.out} is gone"
    return ""


def leader(pods: Sequence[Mapping[str, Any]]) -> str | None:
    """The pod whose log is shown: the master, or worker 0 if there is none; None before it runs."""
    started = [pod for pod in pods if pod.get("status", {}).get("phase") not in (None, "Pending")]
    names = sorted(str(pod["metadata"]["name"]) for pod in started)
    return next((name for name in names if name.endswith(("-master-0", "-worker-0"))), None)


def pods_wanted(there: Mapping[str, Any]) -> int:
    """How many pods the job must have now: 0 while Kueue holds it, the minimum of an elastic job."""
    spec = there.get("spec", {})
    if spec.get("runPolicy", {}).get("suspend"):
        return 0
    replicas = sum(int(one.get("replicas", 1)) for one in spec.get("pytorchReplicaSpecs", {}).values())
    return int(spec.get("elasticPolicy", {}).get("minReplicas", replicas))


def not_created(there: Mapping[str, Any], pods: int, variable: str) -> PodProblem:
    """The problem of a job whose pods the operator has not created."""
    message = f"{pods} of {pods_wanted(there)} pods exist"
    return PodProblem(f"of {there['metadata']['name']}", NOT_CREATED, message, True, variable)
