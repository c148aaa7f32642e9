from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from immr.launch.kubeflow.job_status import ended, has_expired, not_created, reason_to_replace
from immr.launch.kubeflow.pytorchjob import PyTorchJobs
from immr.launch.launcher import TrainingJob

KIND = PyTorchJobs()


def job(kind: str = "", ago: timedelta = timedelta()) -> dict[str, Any]:
    """A job of four pods, with a condition."""
    at = (datetime.now(UTC) - ago).isoformat()
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": at}] if kind else []
    replicas = {"Master": {"replicas": 1}, "Worker": {"replicas": 3}}
    return {
        "metadata": {"name": "train-7"},
        "spec": {"pytorchReplicaSpecs": replicas},
        "status": {"conditions": conditions},
    }


def test_a_job_is_replaced_if_it_failed_or_lost_its_output(tmp_path: Path) -> None:
    wanted = TrainingJob("train-7", tmp_path / "job.json", 1, out=tmp_path / "out")
    assert reason_to_replace(job("Failed"), wanted, KIND) == "has failed"
    assert "is gone" in reason_to_replace(job("Succeeded"), wanted, KIND)
    (tmp_path / "out").mkdir()
    assert reason_to_replace(job("Succeeded"), wanted, KIND) == ""
    assert reason_to_replace(job("Running"), wanted, KIND) == ""


def test_a_job_has_ended_once_it_succeeded_or_failed() -> None:
    assert [bool(ended(job(kind), KIND)) for kind in ("Succeeded", "Failed", "Running", "")] == [
        True,
        True,
        False,
        False,
    ]


def test_a_job_expires_some_time_after_its_end() -> None:
    assert has_expired(job("Succeeded", timedelta(hours=2)), KIND, keep_s=3600)
    assert not has_expired(job("Succeeded", timedelta(minutes=2)), KIND, keep_s=3600)
    assert not has_expired(job("Running", timedelta(hours=2)), KIND, keep_s=3600)


def test_missing_pods_are_counted() -> None:
    problem = not_created(job(), 1, KIND, "IMMR_LAUNCH_URL")
    assert "1 of 4 pods exist" in str(problem)
