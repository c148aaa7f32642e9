from pathlib import Path
from typing import Any

from immr.launch.job_status import leader, not_created, pods_wanted, reason_to_replace
from immr.launch.launcher import TrainingJob


def job(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "train-7"}, "spec": spec}


def with_condition(kind: str) -> dict[str, Any]:
    return job() | {"status": {"conditions": [{"type": kind, "status": "True"}]}}


def test_a_job_is_replaced_if_it_failed_or_lost_its_output(tmp_path: Path) -> None:
    wanted = TrainingJob("train-7", tmp_path / "job.json", 1, out=tmp_path / "out")
    assert reason_to_replace(with_condition("Failed"), wanted) == "has failed"
    assert "output" in reason_to_replace(with_condition("Succeeded"), wanted)
    (tmp_path / "out").mkdir()
    assert reason_to_replace(with_condition("Succeeded"), wanted) == ""
    assert reason_to_replace(with_condition("Running"), wanted) == ""


def pod(name: str, phase: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"phase": phase}}


def test_the_log_is_that_of_the_first_pod_that_runs() -> None:
    assert leader([pod("train-7-master-0", "Pending")]) is None
    assert (
        leader([pod("train-7-worker-1", "Running"), pod("train-7-worker-0", "Running")]) == "train-7-worker-0"
    )
    both = [pod("train-7-worker-0", "Running"), pod("train-7-master-0", "Running")]
    assert leader(both) == "train-7-master-0"


def test_how_many_pods_there_should_be() -> None:
    replicas = {"Master": {"replicas": 1}, "Worker": {"replicas": 3}}
    assert pods_wanted(job(pytorchReplicaSpecs=replicas)) == 4
    assert pods_wanted(job(pytorchReplicaSpecs=replicas, runPolicy={"suspend": True})) == 0
    assert pods_wanted(job(pytorchReplicaSpecs=replicas, elasticPolicy={"minReplicas": 2})) == 2
    problem = not_created(job(pytorchReplicaSpecs=replicas), 1, "IMMR_LAUNCH_URL")
    assert "1 of 4 pods exist" in str(problem)
