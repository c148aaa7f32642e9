"""A training job as a PyTorchJob, against the operator's own definition."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from immr.errors import TrainingError
from immr.launch.kubeflow.job_shape import JobShape
from immr.launch.kubeflow.pytorchjob import PyTorchJobs
from immr.launch.launcher import TrainingJob
from tests.k8s import schemas

NAMESPACE = "immr"
pytorchjob = PyTorchJobs().body


@pytest.mark.parametrize(
    ("processes", "shape", "replicas"),
    [
        (1, JobShape(), {"Master": 1}),
        (4, JobShape(), {"Master": 1, "Worker": 3}),
        (4, JobShape(processes_per_pod=4), {"Master": 1}),
        (8, JobShape(processes_per_pod=2, gpus=2, queue="team", tolerations="gpu", node_selector="pool=gpu"),
         {"Master": 1, "Worker": 3}),
        (4, JobShape(elastic_min_pods=2), {"Worker": 4}),
    ],
)  # fmt: skip
def test_the_object_matches_the_operators_definition(
    job: TrainingJob, tmp_path: Path, processes: int, shape: JobShape, replicas: dict[str, int]
) -> None:
    body = pytorchjob(replace(job, processes=processes), NAMESPACE, shape, tmp_path, {})
    specs = body["spec"]["pytorchReplicaSpecs"]
    assert {kind: spec["replicas"] for kind, spec in specs.items()} == replicas
    for spec in specs.values():
        (container,) = spec["template"]["spec"]["containers"]
        assert container["name"] == "pytorch"
        assert container["command"][-1] == str(job.job_file)
        assert {"mountPath": str(tmp_path), "name": "home"} in container["volumeMounts"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert spec["template"]["spec"]["automountServiceAccountToken"] is False
    schemas.needed()
    assert schemas.problems(body) == []


def test_a_queue_a_selector_and_tolerations_are_passed_on(job: TrainingJob, tmp_path: Path) -> None:
    shape = JobShape(queue="team", tolerations="nvidia.com/gpu,spot", node_selector="pool=gpu,zone=a", gpus=1)
    body = pytorchjob(job, NAMESPACE, shape, tmp_path, {"IMMR_TRACKING_URL": "http://mlflow:5000"})
    template = body["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]
    assert body["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert template["nodeSelector"] == {"pool": "gpu", "zone": "a"}
    assert [one["key"] for one in template["tolerations"]] == ["nvidia.com/gpu", "spot"]
    assert template["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    names = {one["name"]: one["value"] for one in template["containers"][0]["env"]}
    assert names["IMMR_TRACKING_URL"] == "http://mlflow:5000"
    assert "NCCL_SOCKET_IFNAME" in names


def test_settings_of_nccl_and_the_topology_reach_the_pods(job: TrainingJob, tmp_path: Path) -> None:
    url = {
        "gpus": "1",
        "environment": "NCCL_IB_HCA=mlx5,NCCL_SOCKET_IFNAME=ib0",
        "topology": "rack",
        "memory": "32Gi",
    }
    shape = JobShape.from_query(url | {"shared_memory": "8Gi"})
    for spec in pytorchjob(job, NAMESPACE, shape, tmp_path, {})["spec"]["pytorchReplicaSpecs"].values():
        template = spec["template"]
        (container,) = template["spec"]["containers"]
        variables = {one["name"]: one.get("value") for one in container["env"]}
        assert (variables["NCCL_IB_HCA"], variables["NCCL_SOCKET_IFNAME"]) == ("mlx5", "ib0")
        assert template["metadata"]["annotations"]["kueue.x-k8s.io/podset-preferred-topology"] == "rack"
        volumes = {one["name"]: one for one in template["spec"]["volumes"]}
        assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}
        mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
        assert mounts["shm"] == "/dev/shm"


def test_pods_read_the_keys_of_pictures_in_s3_from_the_secret(job: TrainingJob, tmp_path: Path) -> None:
    def variables(settings: dict[str, str], shape: JobShape) -> dict[str, Any]:
        body = pytorchjob(job, NAMESPACE, shape, tmp_path, settings)
        (container,) = body["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["containers"]
        return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}

    found = variables(
        {"IMMR_PIXELS_URL": "s3://bucket/pixels"}, JobShape(environment="AWS_REGION=eu-north-1")
    )
    key = {"key": "AWS_ACCESS_KEY_ID", "name": "immr-s3", "optional": True}
    assert found["AWS_ACCESS_KEY_ID"] == {"secretKeyRef": key}
    assert found["AWS_REGION"] == "eu-north-1"
    assert "AWS_ACCESS_KEY_ID" not in variables({"IMMR_PIXELS_URL": ""}, JobShape())


def test_fewer_gpus_than_processes_are_refused(job: TrainingJob, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"2 processes per pod do not fit on 1 GPU,.*set gpus"):
        pytorchjob(job, NAMESPACE, JobShape(processes_per_pod=2, gpus=1), tmp_path, {})


def test_more_elastic_pods_than_there_are_is_an_error(job: TrainingJob, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="more than the 2 pods"):
        pytorchjob(job, NAMESPACE, JobShape(elastic_min_pods=3), tmp_path, {})


def test_restarts_are_counted_for_the_whole_job(job: TrainingJob, tmp_path: Path) -> None:
    """The operator adds up the restarts of all pods, and one crash restarts every pod."""
    body = pytorchjob(replace(job, processes=4), NAMESPACE, JobShape(backoff_limit=2), tmp_path, {})
    assert body["spec"]["runPolicy"]["backoffLimit"] == 8


def test_the_pods_of_a_failed_job_stay_for_their_logs(job: TrainingJob, tmp_path: Path) -> None:
    body = pytorchjob(job, NAMESPACE, JobShape(), tmp_path, {})
    assert body["spec"]["runPolicy"]["cleanPodPolicy"] == "None"
