"""The code against a real API server, with the account of a pipeline's step; tests act as the operators.

IMMR_TEST_KUBECONFIG names an administrator's kubeconfig of a control plane: API server, scheduler,
controllers, a Node object and the definitions of ../shared/crds, but no
training operator and no KServe, which would act on the same objects.
"""

from __future__ import annotations

import functools
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from immr.cluster.api import Kind
from immr.cluster.retries import describe
from immr.deploy.inference_service import ServingShape
from immr.deploy.kserve import ROLES, KserveDeployer
from immr.doctor.cluster import examine_cluster
from immr.doctor.operators import OPERATORS
from immr.errors import DeployError, TrainingError
from immr.launch.kubeflow.job_shape import JobShape
from immr.launch.kubeflow.kubeflow_launcher import KubeflowLauncher
from immr.launch.launcher import TrainingJob
from immr.settings import Settings
from tests.k8s import schemas
from tests.support import tiny_version
from tests.support.patience import until

KUBECONFIG = os.environ.get("IMMR_TEST_KUBECONFIG", "")
pytestmark = pytest.mark.skipif(not KUBECONFIG, reason="IMMR_TEST_KUBECONFIG names no real API server")
NAME = "immr-0123456789ab"
PIPELINE = "immr-pipeline"
WAIT_S = 60.0


@dataclass(frozen=True)
class Place:
    """A namespace with the accounts of k8s/base, and clients for its administrator and a pipeline step."""

    namespace: str
    admin: Any
    steps: Any

    def kind(self, prefix: str, plural: str) -> Kind:
        return Kind(self.admin, prefix, plural, self.namespace)

    @property
    def jobs(self) -> Kind:
        return self.kind("/apis/kubeflow.org/v1", "pytorchjobs")

    @property
    def services(self) -> Kind:
        return self.kind("/apis/serving.kserve.io/v1beta1", "inferenceservices")

    def say(self, kind: Kind, name: str, condition: str, value: str = "True", message: str = "") -> None:
        """A condition in an object's status, as its operator sets it."""
        one = {"type": condition, "status": value, "reason": f"Test{condition}", "message": message}
        kind.patch(f"{name}/status", {"status": {"conditions": [one]}})

    def pod(self, status: dict[str, Any], cpu: str = "1m") -> None:
        """The job's master; there is no kubelet, so that its log cannot be read."""
        labels = {"training.kubeflow.org/job-name": NAME}
        container = {"name": "pytorch", "image": "none", "resources": {"requests": {"cpu": cpu}}}
        pods = self.kind("/api/v1", "pods")
        name = f"{NAME}-master-0"
        spec = {"containers": [container], "serviceAccountName": "immr-training"}
        pods.create({"metadata": {"name": name, "labels": labels}, "spec": spec})
        pods.patch(f"{name}/status", {"status": status})

    def version_starts(self, name: str) -> None:
        """A ready pod with the annotations of its InferenceService, whose status then says the same."""
        service = self.services.get(name)
        assert service is not None
        notes = service["metadata"]["annotations"]
        metadata = {
            "name": f"{name}-predictor",
            "labels": {"serving.kserve.io/inferenceservice": name},
            "annotations": notes,
        }
        pods = self.kind("/api/v1", "pods")
        pods.create({"metadata": metadata, "spec": {"containers": [{"name": "search", "image": "none"}]}})
        ready = {"type": "Ready", "status": "True"}
        pods.patch(f"{name}-predictor/status", {"status": {"phase": "Running", "conditions": [ready]}})
        self.say(self.services, name, "Ready")


def client_with(**changes: Any) -> Any:
    from kubernetes import client, config

    configuration = client.Configuration()
    config.load_kube_config(KUBECONFIG, client_configuration=configuration)
    configuration.refresh_api_key_hook = None  # it would restore the administrator's token
    for name, value in changes.items():
        setattr(configuration, name, value)
    return client.ApiClient(configuration)


def objects_of(namespace: str) -> str:
    """Accounts, Roles, bindings and the map of roles."""
    base = schemas.ROOT / "k8s" / "base"
    built = subprocess.run(["kubectl", "kustomize", base], capture_output=True, check=True, timeout=60).stdout
    wanted = ("ServiceAccount", "Role", "RoleBinding")
    found = [
        one for one in yaml.safe_load_all(built) if one["kind"] in wanted or one["metadata"]["name"] == ROLES
    ]
    for subject in (subject for one in found for subject in one.get("subjects", [])):
        subject["namespace"] = namespace
    return yaml.safe_dump_all(found)


@pytest.fixture
def place() -> Iterator[Place]:
    from kubernetes import client

    admin, namespace = client_with(), f"immr-test-{uuid.uuid4().hex[:8]}"
    core = client.CoreV1Api(admin)
    core.create_namespace({"metadata": {"name": namespace}})
    try:
        kubectl = ["kubectl", "--kubeconfig", KUBECONFIG, "--namespace", namespace, "apply", "--filename=-"]
        subprocess.run(
            kubectl, input=objects_of(namespace), text=True, check=True, capture_output=True, timeout=120
        )
        token = core.create_namespaced_service_account_token(PIPELINE, namespace, {"spec": {}}).status.token
        steps = client_with(api_key={"authorization": f"Bearer {token}"}, cert_file=None, key_file=None)
        with admin, steps:
            yield Place(namespace, admin, steps)
    finally:
        core.delete_namespace(namespace)


def eventually(question: Callable[[], object]) -> None:
    until(question, WAIT_S, pause_s=0.2)


# --- training


def training(place: Place, home: Path, run: str = "") -> tuple[KubeflowLauncher, TrainingJob]:
    (home / "job.json").write_text("{}")
    shape = JobShape(pending_grace_s=3, node_grace_s=3, run=run)
    launcher = KubeflowLauncher(place.steps, place.namespace, shape, home, {}, poll_s=1)
    return launcher, TrainingJob(NAME, home / "job.json", 1)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


def test_a_job_runs_to_its_end_and_a_second_attempt_waits_for_the_same(
    place: Place, pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    launcher, job = training(place, tmp_path)
    first = pool.submit(launcher.run, job)
    eventually(lambda: place.jobs.get(NAME))
    place.pod({"phase": "Running"})
    made = place.jobs.get(NAME)
    assert made
    second = pool.submit(training(place, tmp_path, run="b")[0].run, job)
    eventually(lambda: (place.jobs.get(NAME) or {})["metadata"]["labels"].get("immr.dev/run") == "b")
    place.say(place.jobs, NAME, "Succeeded")
    first.result(WAIT_S), second.result(WAIT_S)
    there = place.jobs.get(NAME)
    assert there and there["metadata"]["uid"] == made["metadata"]["uid"]


def failing(place: Place, waiting: Future[None]) -> str:
    with pytest.raises(TrainingError) as raised:
        waiting.result(WAIT_S)
    return str(raised.value)


def test_a_container_killed_for_memory_is_named(
    place: Place, pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    launcher, job = training(place, tmp_path)
    waiting = pool.submit(launcher.run, job)
    eventually(lambda: place.jobs.get(NAME))
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    status = {
        "name": "pytorch",
        "image": "none",
        "imageID": "",
        "ready": False,
        "restartCount": 1,
        "state": ended,
    }
    place.pod({"phase": "Failed", "containerStatuses": [status]})
    place.say(place.jobs, NAME, "Failed", message="the master failed")
    message = failing(place, waiting)
    assert "the master failed" in message and "OOMKilled" in message and "memory=" in message


@pytest.mark.parametrize(
    ("reason", "cpu"), [("ImagePullBackOff", "1m"), ("Unschedulable", "1000000"), ("FailedCreatePod", "")]
)
def test_a_job_that_cannot_start_is_reported_and_deleted(
    place: Place, pool: ThreadPoolExecutor, tmp_path: Path, reason: str, cpu: str
) -> None:
    launcher, job = training(place, tmp_path)
    waiting = pool.submit(launcher.run, job)
    eventually(lambda: place.jobs.get(NAME))
    if reason == "FailedCreatePod":
        about = {"kind": "PyTorchJob", "name": NAME, "namespace": place.namespace}
        event = {
            "metadata": {"name": "refused"},
            "involvedObject": about,
            "reason": reason,
            "message": "quota",
            "type": "Warning",
        }
        place.kind("/api/v1", "events").create(event)
    else:
        status = {"name": "pytorch", "image": "none", "imageID": "", "ready": False, "restartCount": 0}
        stuck = {"containerStatuses": [status | {"state": {"waiting": {"reason": reason}}}]}
        # the scheduler itself reports the other reason
        place.pod(stuck if reason == "ImagePullBackOff" else {}, cpu)
    assert reason in failing(place, waiting)
    eventually(lambda: place.jobs.get(NAME) is None)


def test_an_invalid_object_is_refused_at_once(place: Place, tmp_path: Path) -> None:
    _, job = training(place, tmp_path)
    shape = JobShape(memory="3Gx")
    with pytest.raises(TrainingError, match=r"answers 422.*memory.*IMMR_LAUNCH_URL"):
        KubeflowLauncher(place.steps, place.namespace, shape, tmp_path, {}).run(job)


def test_jobs_that_a_run_left_behind_are_stopped(
    place: Place, pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    launcher, job = training(place, tmp_path, run="a")
    waiting = pool.submit(launcher.run, job)
    eventually(lambda: place.jobs.get(NAME))
    place.pod({"phase": "Running"})
    assert launcher.stop("b") == []
    assert launcher.stop("a") == [NAME]
    assert "was deleted" in failing(place, waiting)


# --- serving


def test_versions_follow_each_other(place: Place, pool: ThreadPoolExecutor) -> None:
    deployer = KserveDeployer(place.steps, place.namespace, ServingShape(ready_timeout_s=30), poll_s=0.2)
    for number in (1, 2, 3):
        waiting = pool.submit(
            deployer.apply, tiny_version.version(number), f"immr-search:immr-{number}", "champion"
        )
        eventually(functools.partial(place.services.get, f"immr-{number}"))
        place.version_starts(f"immr-{number}")
        assert waiting.result(WAIT_S).version_id == f"immr-{number}"
    assert [one["metadata"]["name"] for one in place.services.select()] == ["immr-2", "immr-3"]
    assert [one.version_id for one in deployer.current()] == ["immr-3"]
    deployer.remove("champion")
    assert deployer.current() == []


def test_a_version_that_is_not_ready_gets_no_role(place: Place, pool: ThreadPoolExecutor) -> None:
    deployer = KserveDeployer(place.steps, place.namespace, ServingShape(ready_timeout_s=3), poll_s=0.2)
    waiting = pool.submit(deployer.apply, tiny_version.version(1), "immr-search:immr-1", "champion")
    eventually(lambda: place.services.get("immr-1"))
    place.say(place.services, "immr-1", "Ready", "False", "the claim is not there")
    with pytest.raises(DeployError, match="the claim is not there"):
        waiting.result(WAIT_S)
    assert deployer.current() == []


# --- permissions


def test_the_doctor_finds_every_permission_as_the_steps_account(place: Place) -> None:
    found = {
        one.what: one
        for one in examine_cluster(place.steps, Settings(launch_url=f"kubeflow://{place.namespace}"))
    }
    permissions = [one for what, one in found.items() if what.startswith("permission")]
    assert permissions and all(one.ok for one in permissions), permissions
    assert all(one.ok for what, one in found.items() if what.startswith(tuple(o.name for o in OPERATORS)))
    assert found[f"roles in {place.namespace}"].ok
    assert found[f"key of click tokens in {place.namespace}"].found.startswith("not checked")


@pytest.mark.parametrize(
    ("prefix", "plural"),
    [
        ("/api/v1", "secrets"),
        ("/apis/apps/v1", "deployments"),
        ("/apis/rbac.authorization.k8s.io/v1", "roles"),
    ],
)
def test_other_calls_are_forbidden(place: Place, prefix: str, plural: str) -> None:
    from kubernetes.client.exceptions import ApiException

    with pytest.raises(ApiException) as raised:
        Kind(place.steps, prefix, plural, place.namespace).select()
    assert raised.value.status == 403
    assert "compare its Role with k8s/base" in describe(raised.value, "listing")
    with pytest.raises(ApiException, match="Forbidden"):
        Kind(place.steps, "/api/v1", "pods", place.namespace).create(
            {"metadata": {"name": "own"}, "spec": {}}
        )
    with pytest.raises(ApiException, match="Forbidden"):
        Kind(place.steps, "/apis/kubeflow.org/v1", "pytorchjobs", "default").select()
