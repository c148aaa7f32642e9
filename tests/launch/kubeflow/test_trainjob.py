"""A training job as a TrainJob, and its runtime, against Kubeflow Trainer's own models and definitions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from immr.errors import TrainingError
from immr.launch.kubeflow.job_shape import JobShape
from immr.launch.kubeflow.trainjob import RUNTIME, TrainJobs
from immr.launch.launcher import TrainingJob
from tests.k8s import schemas

NAMESPACE = "immr"
trainjob = TrainJobs().body


@pytest.fixture(scope="module")
def runtime() -> dict[str, Any]:
    file = schemas.ROOT / "k8s" / "components" / "trainer" / "runtime.yaml"
    loaded: dict[str, Any] = yaml.safe_load(file.read_text())
    return loaded


def differences(body: dict[str, Any], model: Any) -> Any:
    """What Trainer's model drops or changes: unknown fields, and values of another type."""
    read = model.from_dict(body).to_dict()
    return {} if read == body else (body, read)


SHAPES = [
    (1, JobShape(), 1),
    (4, JobShape(), 4),
    (8, JobShape(processes_per_pod=2, gpus=2, queue="team", tolerations="gpu", node_selector="pool=gpu"), 4),
]


@pytest.mark.parametrize(("processes", "shape", "nodes"), SHAPES)
def test_the_object_matches_trainers_models(
    job: TrainingJob, tmp_path: Path, processes: int, shape: JobShape, nodes: int
) -> None:
    models = pytest.importorskip(
        "kubeflow_trainer_api.models", reason="kubeflow-trainer-api is not installed"
    )
    body = trainjob(replace(job, processes=processes), NAMESPACE, shape, tmp_path, {"IMMR_MODEL_NAME": "a"})
    trainer = body["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (nodes, shape.processes_per_pod)
    assert trainer["command"][-1] == str(job.job_file)
    assert {"name": "IMMR_HOME", "value": str(tmp_path)} in trainer["env"]
    assert differences(body["spec"], models.TrainerV1alpha1TrainJobSpec) == {}


@pytest.mark.parametrize(("processes", "shape", "nodes"), SHAPES)
def test_the_object_matches_the_definition(
    job: TrainingJob, tmp_path: Path, processes: int, shape: JobShape, nodes: int
) -> None:
    schemas.needed()
    if schemas.schema("trainer.kubeflow.org", "v1alpha1", "TrainJob") is None:
        pytest.skip("no definition of TrainJob in $IMMR_CRDS")
    body = trainjob(replace(job, processes=processes), NAMESPACE, shape, tmp_path, {})
    assert schemas.problems(body) == []


def test_the_runtime_matches_trainers_models(runtime: dict[str, Any]) -> None:
    models = pytest.importorskip(
        "kubeflow_trainer_api.models", reason="kubeflow-trainer-api is not installed"
    )
    assert runtime["metadata"]["name"] == RUNTIME
    assert differences(runtime["spec"], models.TrainerV1alpha1TrainingRuntimeSpec) == {}


def test_the_runtime_matches_the_definition(runtime: dict[str, Any]) -> None:
    schemas.needed()
    if schemas.schema("trainer.kubeflow.org", "v1alpha1", "TrainingRuntime") is None:
        pytest.skip("no definition of TrainingRuntime in $IMMR_CRDS")
    assert schemas.problems(runtime) == []


def test_a_job_patches_only_what_its_runtime_has(
    job: TrainingJob, tmp_path: Path, runtime: dict[str, Any]
) -> None:
    """Trainer's webhook refuses patches of unknown jobs and containers, environments in them, and bare managers."""
    body = trainjob(job, NAMESPACE, JobShape(), tmp_path, {})
    (patch,) = body["spec"]["runtimePatches"]
    assert "/" in patch["manager"]
    (patched,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    (there,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    assert patched["name"] == there["name"]
    pod, base = (one["template"]["spec"]["template"]["spec"] for one in (patched, there))
    assert [one["name"] for one in pod["containers"]] == [one["name"] for one in base["containers"]]
    assert not [one for one in pod["containers"] if "env" in one]
    assert {one["name"] for one in pod["containers"][0]["volumeMounts"]} == {
        one["name"] for one in pod["volumes"]
    }
    reserved = [one["name"] for one in body["spec"]["trainer"]["env"] if one["name"].startswith("PET_")]
    assert not reserved


def test_what_trainer_cannot_do_is_refused(job: TrainingJob, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="cannot be elastic"):
        trainjob(job, NAMESPACE, JobShape(elastic_min_pods=1), tmp_path, {})
    with pytest.raises(TrainingError, match=r"failurePolicy.maxRestarts in the TrainingRuntime"):
        trainjob(job, NAMESPACE, JobShape(backoff_limit=5), tmp_path, {})


def test_the_log_of_the_newest_attempt_is_followed() -> None:
    def pod(name: str, index: str, created: str, phase: str = "Running") -> dict[str, Any]:
        labels = {"batch.kubernetes.io/job-completion-index": index}
        metadata = {"name": name, "labels": labels, "creationTimestamp": created}
        return {"metadata": metadata, "status": {"phase": phase}}

    pods = [
        pod("new", "0", "2024-05-01T13:00:00Z"),
        pod("old", "0", "2024-05-01T12:00:00Z", "Failed"),
        pod("other", "1", "2024-05-01T14:00:00Z"),
        pod("next", "0", "2024-05-01T15:00:00Z", "Pending"),
    ]
    assert TrainJobs().leader(pods) == "new"
    assert TrainJobs().leader(pods[3:]) is None
