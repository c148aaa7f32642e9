"""Interprets the status of a PyTorchJob and its pods (JSON as the API returns it)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from immr.cluster.objects import condition
from immr.cluster.pod_problems import NOT_CREATED, PodProblem
from immr.launch.launcher import TrainingJob


def reason_to_replace(existing: Mapping[str, Any], job: TrainingJob) -> str:
    """Why an existing job must be replaced instead of waited for; empty if it need not be."""
    if condition(existing, "Failed"):
        return "has failed"
    if condition(existing, "Succeeded") and job.out is not None and not job.out.exists():
        return f"has succeeded, but its output {job.out} is gone"
    return ""


def leader(pods: Sequence[Mapping[str, Any]]) -> str | None:
    """The pod whose log is shown: the master, or worker 0 of a job without a master; None before it runs."""
    started = [pod for pod in pods if pod.get("status", {}).get("phase") not in (None, "Pending")]
    names = sorted(str(pod["metadata"]["name"]) for pod in started)
    return next((name for name in names if name.endswith(("-master-0", "-worker-0"))), None)


def pods_wanted(existing: Mapping[str, Any]) -> int:
    """How many pods the job must have now: 0 while Kueue holds it, the minimum of an elastic job."""
    spec = existing.get("spec", {})
    if spec.get("runPolicy", {}).get("suspend"):
        return 0
    replicas = sum(
        int(replica_spec.get("replicas", 1)) for replica_spec in spec.get("pytorchReplicaSpecs", {}).values()
    )
    return int(spec.get("elasticPolicy", {}).get("minReplicas", replicas))


def not_created(existing: Mapping[str, Any], pods: int, variable: str) -> PodProblem:
    """The problem of a job whose pods the operator has not created."""
    message = f"{pods} of {pods_wanted(existing)} pods exist"
    return PodProblem(f"of {existing['metadata']['name']}", NOT_CREATED, message, True, variable)
