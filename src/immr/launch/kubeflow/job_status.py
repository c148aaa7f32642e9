"""Interprets the status of a training job (JSON as the API returns it)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from immr.cluster.objects import condition
from immr.cluster.pod_problems import NOT_CREATED, PodProblem
from immr.launch.kubeflow.job_kind import JobKind, Object
from immr.launch.launcher import TrainingJob


def ended(existing: Object, kind: JobKind) -> Object | None:
    """The condition that says how the job has ended; None while it has not."""
    return condition(existing, kind.succeeded) or condition(existing, "Failed")


def reason_to_replace(existing: Object, job: TrainingJob, kind: JobKind) -> str:
    """Why an existing job must be replaced instead of waited for; empty if it need not be."""
    if condition(existing, "Failed"):
        return "has failed"
    if condition(existing, kind.succeeded) and job.out is not None and not job.out.exists():
        return f"has succeeded, but its output {job.out} is gone"
    return ""


def has_expired(existing: Object, kind: JobKind, keep_s: float) -> bool:
    """Whether a job ended more than `keep_s` seconds ago."""
    end = ended(existing, kind)
    if end is None or not end.get("lastTransitionTime"):
        return False
    return datetime.now(UTC) - datetime.fromisoformat(end["lastTransitionTime"]) > timedelta(seconds=keep_s)


def not_created(existing: Object, pods: int, kind: JobKind, variable: str) -> PodProblem:
    """The problem of a job whose pods the operator has not created."""
    message = f"{pods} of {kind.pods_wanted(existing)} pods exist"
    return PodProblem(f"of {existing['metadata']['name']}", NOT_CREATED, message, True, variable)
