"""The launcher against an API server over real HTTP, and its object against the operator's own definition."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from immr.errors import SettingsError, TrainingError
from immr.launch.job_shape import JobShape, for_run
from immr.launch.kubeflow import KubeflowLauncher
from immr.launch.launcher import TrainingJob
from immr.launch.pytorchjob import pytorchjob
from tests.k8s import fake_api, schemas
from tests.k8s.fake_api import CUT, FakeApi, Fault

NAMESPACE = "immr"
NAME = "immr-0123456789ab"


@pytest.fixture
def fake() -> Iterator[FakeApi]:
    with fake_api.serving() as api:
        yield api


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    (tmp_path / "job.json").write_text("{}")
    return TrainingJob(NAME, tmp_path / "job.json", processes=2)


def launcher(fake: FakeApi, home: Path, poll_s: float = 1.0, **shape: Any) -> KubeflowLauncher:
    return KubeflowLauncher(
        fake_api.client_of(fake), NAMESPACE, JobShape(**shape), home, {"IMMR_MODEL_NAME": "immr"}, poll_s
    )


def condition(kind: str, message: str = "") -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": "True", "reason": f"Job{kind}", "message": message}]}


def pod(role: str, **status: Any) -> dict[str, Any]:
    labels = {"training.kubeflow.org/job-name": NAME}
    metadata = {"name": f"{NAME}-{role}-0", "namespace": NAMESPACE, "labels": labels}
    return {"metadata": metadata, "status": {"phase": "Running", **status}}


def finish(fake: FakeApi, kind: str = "Succeeded", message: str = "") -> None:
    fake.change("pytorchjobs", NAMESPACE, NAME, status=condition(kind, message))


def finish_when_created(fake: FakeApi, kind: str = "Succeeded", message: str = "") -> None:
    fake.on_create = lambda resource, body: finish(fake, kind, message)


# --- the object


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


def test_a_job_that_cannot_run_is_refused_before_any_call(
    fake: FakeApi, job: TrainingJob, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="do not fill pods of 2"):
        launcher(fake, tmp_path, processes_per_pod=2).run(replace(job, processes=3))
    with pytest.raises(TrainingError, match="is not below IMMR_HOME"):
        launcher(fake, tmp_path / "elsewhere").run(job)
    with pytest.raises(TrainingError, match=r"job file .* does not exist"):
        launcher(fake, tmp_path).run(replace(job, job_file=tmp_path / "none.json"))
    with pytest.raises(TrainingError, match="more than the 2 pods"):
        launcher(fake, tmp_path, elastic_min_pods=3).run(job)
    assert fake.calls == []


def test_a_shape_is_read_from_a_url_query() -> None:
    assert JobShape.from_query({"gpus": "2", "queue": "a"}) == JobShape(gpus=2, queue="a")
    with pytest.raises(SettingsError, match=r"known names are .*processes_per_pod"):
        JobShape.from_query({"gpu": "2"})
    with pytest.raises(SettingsError, match="whole number"):
        JobShape.from_query({"gpus": "two"})


# --- creating and waiting


def test_a_job_is_created_and_watched_and_its_log_shown(
    fake: FakeApi, job: TrainingJob, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fake.logs[f"{NAME}-master-0"] = ["epoch 1 of 2", "epoch 2 of 2"]
    thread = threading.Thread(target=launcher(fake, tmp_path, poll_s=5).run, args=(job,))
    thread.start()
    fake.wait_for(lambda: fake.count("watch", "pytorchjobs") == 1)
    fake.put("pods", pod("master"))
    fake.change("pytorchjobs", NAMESPACE, NAME, status=condition("Running"))
    fake.wait_for(lambda: fake.count("get", "pods/log") >= 1)
    start = time.monotonic()
    finish(fake)
    thread.join(10)
    assert not thread.is_alive()
    assert time.monotonic() - start < 4  # the watch reported it, not the next poll
    assert capfd.readouterr().err.count("epoch 2 of 2") == 1
    assert ("pytorchjobs", NAMESPACE, NAME) in fake.objects  # the cluster deletes it after the TTL


def test_a_retry_waits_for_its_own_job(fake: FakeApi, job: TrainingJob, tmp_path: Path) -> None:
    finish_when_created(fake)
    launcher(fake, tmp_path).run(job)
    launcher(fake, tmp_path).run(job)
    created = [body for call, body in fake.bodies if call.verb == "create"]
    assert len(created) == 2  # the second was answered with 409
    assert fake.count("delete", "pytorchjobs") == 0


def test_a_failed_job_of_an_earlier_attempt_is_replaced(
    fake: FakeApi, job: TrainingJob, tmp_path: Path
) -> None:
    finish_when_created(fake, "Failed")
    with pytest.raises(TrainingError):
        launcher(fake, tmp_path).run(job)
    finish_when_created(fake)
    launcher(fake, tmp_path).run(job)
    assert fake.count("delete", "pytorchjobs") == 1


def test_a_job_that_immr_did_not_create_is_not_touched(
    fake: FakeApi, job: TrainingJob, tmp_path: Path
) -> None:
    fake.put("pytorchjobs", {"metadata": {"name": NAME, "namespace": NAMESPACE}})
    with pytest.raises(TrainingError, match="IMMR did not create"):
        launcher(fake, tmp_path).run(job)
    assert fake.count("delete", "pytorchjobs") == 0


@pytest.mark.parametrize("status", [CUT, 410, 500, 429])
def test_a_broken_watch_is_resumed(
    fake: FakeApi, job: TrainingJob, tmp_path: Path, status: int | str
) -> None:
    fake.faults = [Fault("watch", "pytorchjobs", status, times=2)]
    thread = threading.Thread(target=launcher(fake, tmp_path).run, args=(job,))
    thread.start()
    fake.wait_for(lambda: fake.count("watch", "pytorchjobs") == 3)
    finish(fake)
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("verb", ["create", "get"])
@pytest.mark.parametrize("status", [429, 500, 503, CUT])
def test_a_busy_server_is_waited_for(
    fake: FakeApi, job: TrainingJob, tmp_path: Path, verb: str, status: int | str
) -> None:
    finish_when_created(fake)
    fake.faults = [Fault(verb, "pytorchjobs", status, headers={"Retry-After": "0.1"})]
    launcher(fake, tmp_path).run(job)
    assert fake.count(verb, "pytorchjobs") >= 2


def test_an_outage_of_the_api_does_not_end_training(fake: FakeApi, job: TrainingJob, tmp_path: Path) -> None:
    """Far more failures than the retries of one call allow; the job keeps running meanwhile."""
    thread = threading.Thread(target=launcher(fake, tmp_path).run, args=(job,))
    thread.start()
    fake.wait_for(lambda: fake.count("watch", "pytorchjobs") >= 1)
    for verb, resource in (("watch", "pytorchjobs"), ("get", "pytorchjobs"), ("list", "pods")):
        fake.faults.append(Fault(verb, resource, 503, times=20, headers={"Retry-After": "0.02"}))
    fake.wait_for(lambda: fake.count("list", "pods") >= 22)
    finish(fake)
    thread.join(20)
    assert not thread.is_alive()
    assert ("pytorchjobs", NAMESPACE, NAME) in fake.objects


def test_retry_after_is_respected(fake: FakeApi, job: TrainingJob, tmp_path: Path) -> None:
    finish_when_created(fake)
    fake.faults = [Fault("create", "pytorchjobs", 429, headers={"Retry-After": "1"})]
    start = time.monotonic()
    launcher(fake, tmp_path).run(job)
    assert time.monotonic() - start >= 1


@pytest.mark.parametrize(
    ("status", "remedy"),
    [(403, "compare its Role"), (404, "operator installed"), (422, "IMMR_LAUNCH_URL")],
)
def test_a_refusal_names_a_remedy(
    fake: FakeApi, job: TrainingJob, tmp_path: Path, status: int, remedy: str
) -> None:
    fake.faults = [Fault("create", "pytorchjobs", status)]
    with pytest.raises(TrainingError, match=f"answers {status}, .*{remedy}"):
        launcher(fake, tmp_path).run(job)


def test_a_job_deleted_during_training_is_an_error(fake: FakeApi, job: TrainingJob, tmp_path: Path) -> None:
    fake.on_create = lambda resource, body: fake.remove("pytorchjobs", NAMESPACE, NAME)
    with pytest.raises(TrainingError, match="was deleted during training"):
        launcher(fake, tmp_path).run(job)


def test_a_finished_job_whose_output_is_gone_is_replaced(
    fake: FakeApi, job: TrainingJob, tmp_path: Path
) -> None:
    finish_when_created(fake)
    job = replace(job, out=tmp_path / "version")
    (tmp_path / "version").mkdir()
    launcher(fake, tmp_path).run(job)
    launcher(fake, tmp_path).run(job)
    assert fake.count("delete", "pytorchjobs") == 0
    (tmp_path / "version").rmdir()
    fake.on_create = lambda resource, body: ((tmp_path / "version").mkdir(), finish(fake))[1]
    launcher(fake, tmp_path).run(job)
    assert fake.count("delete", "pytorchjobs") == 1


def test_a_job_that_ends_without_its_output_is_an_error(
    fake: FakeApi, job: TrainingJob, tmp_path: Path
) -> None:
    finish_when_created(fake)
    with pytest.raises(TrainingError, match=r"/version does not exist: is the claim immr-home"):
        launcher(fake, tmp_path, output_grace_s=0).run(replace(job, out=tmp_path / "version"))


# --- ownership


def test_stop_deletes_the_running_jobs_of_a_run(fake: FakeApi, job: TrainingJob, tmp_path: Path) -> None:
    finish_when_created(fake)
    launcher(fake, tmp_path, run="a").run(job)
    launcher(fake, tmp_path, run="b").run(job)  # adopted: it is b's now
    assert launcher(fake, tmp_path).stop("b") == []  # it has ended by itself
    fake.change("pytorchjobs", NAMESPACE, NAME, status=condition("Running"))
    assert launcher(fake, tmp_path).stop("a") == []
    assert launcher(fake, tmp_path).stop("b") == [NAME]
    assert ("pytorchjobs", NAMESPACE, NAME) not in fake.objects


def test_a_launch_url_names_its_run() -> None:
    assert for_run("local://", "a", 1) == "local://"
    query = dict(parse_qsl(urlsplit(for_run("kubeflow://immr?processes_per_pod=2", "a", 2)).query))
    assert JobShape.from_query(query) == JobShape(processes_per_pod=2, run="a", gpus=4)
    assert urlsplit(for_run("kubeflow://?cpu=2", "a")).hostname is None


# --- what goes wrong in pods


def event(reason: str, message: str) -> dict[str, Any]:
    about = {"name": NAME, "kind": "PyTorchJob"}
    metadata = {"name": f"{NAME}.{reason}", "namespace": NAMESPACE}
    return {
        "metadata": metadata,
        "involvedObject": about,
        "reason": reason,
        "message": message,
        "type": "Warning",
    }


def test_rejected_pods_end_the_wait_after_the_grace_period(
    fake: FakeApi, job: TrainingJob, tmp_path: Path
) -> None:
    fake.put("pods", pod("master"))
    fake.put("events", event("FailedCreatePod", 'violates PodSecurity "restricted:latest"'))
    with pytest.raises(TrainingError, match=r"FailedCreatePod: violates PodSecurity.*restricted namespace"):
        launcher(fake, tmp_path, pending_grace_s=1).run(job)


def test_a_missing_operator_is_suspected(fake: FakeApi, job: TrainingJob, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"0 of 2 pods exist; is the operator running"):
        launcher(fake, tmp_path, pending_grace_s=1).run(job)


def test_pods_that_the_operator_is_about_to_create_are_not_a_problem(
    fake: FakeApi, job: TrainingJob, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    thread = threading.Thread(target=launcher(fake, tmp_path).run, args=(job,))
    thread.start()
    fake.wait_for(lambda: fake.count("watch", "pytorchjobs") >= 2)
    finish(fake)
    thread.join(10)
    assert "NotCreated" not in caplog.text


def test_a_volume_that_cannot_be_mounted_ends_the_wait(
    fake: FakeApi, job: TrainingJob, tmp_path: Path
) -> None:
    fake.put("pods", pod("master", phase="Pending"))
    fake.put("pods", pod("worker", phase="Pending"))
    failed = event("FailedMount", 'secret "none" not found')
    fake.put("events", failed | {"involvedObject": {"kind": "Pod", "name": f"{NAME}-master-0"}})
    with pytest.raises(
        TrainingError, match=r'master-0 is FailedMount: secret "none" not found; is the claim'
    ):
        launcher(fake, tmp_path, pending_grace_s=1).run(job)


def test_restarts_are_counted_for_the_whole_job(job: TrainingJob, tmp_path: Path) -> None:
    """The operator adds up the restarts of all pods, and one crash restarts every pod."""
    body = pytorchjob(replace(job, processes=4), NAMESPACE, JobShape(backoff_limit=2), tmp_path, {})
    assert body["spec"]["runPolicy"]["backoffLimit"] == 8


def test_the_pods_of_a_failed_job_keep_their_logs_until_we_read_them(
    fake: FakeApi, job: TrainingJob, tmp_path: Path
) -> None:
    fake.put("pods", pod("master"))
    fake.logs[f"{NAME}-master-0"] = ["Killed"]
    finish_when_created(fake, "Failed", "backoff limit")
    assert (
        pytorchjob(job, NAMESPACE, JobShape(), tmp_path, {})["spec"]["runPolicy"]["cleanPodPolicy"] == "None"
    )
    with pytest.raises(TrainingError, match="Killed"):
        launcher(fake, tmp_path).run(job)
    assert ("pytorchjobs", NAMESPACE, NAME) not in fake.objects  # its pods were still running


def test_a_queued_job_may_wait(fake: FakeApi, job: TrainingJob, tmp_path: Path) -> None:
    """As Kueue holds it: suspended, without pods."""

    def hold(resource: str, body: dict[str, Any]) -> None:
        spec = body["spec"] | {"runPolicy": body["spec"]["runPolicy"] | {"suspend": True}}
        fake.change("pytorchjobs", NAMESPACE, NAME, spec=spec)

    fake.on_create = hold
    thread = threading.Thread(target=launcher(fake, tmp_path, pending_grace_s=0).run, args=(job,))
    thread.start()
    fake.wait_for(lambda: fake.count("watch", "pytorchjobs") >= 2)
    assert thread.is_alive() and fake.count("list", "events") == 0
    finish(fake)
    thread.join(10)
    assert not thread.is_alive()


def test_a_failure_reports_the_reason_and_the_last_lines(
    fake: FakeApi, job: TrainingJob, tmp_path: Path
) -> None:
    ended = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    fake.put("pods", pod("master"))
    fake.put(
        "pods", pod("worker", phase="Failed", containerStatuses=[{"name": "pytorch", "lastState": ended}])
    )
    fake.logs[f"{NAME}-worker-0"] = ["loading", "killed"]
    finish_when_created(fake, "Failed", "job has reached the backoff limit")
    with pytest.raises(
        TrainingError, match=r"(?s)backoff limit.*worker-0 is OOMKilled.*more memory.*loading\nkilled"
    ):
        launcher(fake, tmp_path).run(job)


def test_an_error_of_training_itself_is_the_whole_reason(
    fake: FakeApi, job: TrainingJob, tmp_path: Path
) -> None:
    fake.put("pods", pod("master", phase="Failed"))
    fake.logs[f"{NAME}-master-0"] = ["epoch 1", "training error: the loss is NaN: lower it", "Traceback"]
    finish_when_created(fake, "Failed", "failed")
    with pytest.raises(TrainingError, match=r"\(failed\): the loss is NaN: lower it$"):
        launcher(fake, tmp_path).run(job)


STUCK = {
    "Unschedulable": {
        "phase": "Pending",
        "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
        ],
    },
    "ImagePullBackOff": {
        "phase": "Pending",
        "containerStatuses": [
            {"name": "pytorch", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such"}}}
        ],
    },
    "CreateContainerConfigError": {
        "phase": "Pending",
        "initContainerStatuses": [
            {"name": "init", "state": {"waiting": {"reason": "CreateContainerConfigError"}}}
        ],
    },
}


@pytest.mark.parametrize("reason", STUCK)
def test_a_blocked_pod_ends_the_wait_after_the_grace_period(
    fake: FakeApi, job: TrainingJob, tmp_path: Path, reason: str
) -> None:
    fake.put("pods", pod("master", **STUCK[reason]))
    start = time.monotonic()
    with pytest.raises(TrainingError, match=f"cannot start: pod {NAME}-master-0 is {reason}"):
        launcher(fake, tmp_path, pending_grace_s=1).run(job)
    assert 1 <= time.monotonic() - start < 5
    assert fake.count("delete", "pytorchjobs") == 1


def test_a_pod_scheduled_within_the_grace_period_is_fine(
    fake: FakeApi, job: TrainingJob, tmp_path: Path
) -> None:
    fake.put("pods", pod("master", **STUCK["Unschedulable"]))
    thread = threading.Thread(target=launcher(fake, tmp_path, pending_grace_s=60).run, args=(job,))
    thread.start()
    fake.wait_for(lambda: fake.count("watch", "pytorchjobs") >= 1)
    fake.put("pods", pod("master"))
    finish(fake)
    thread.join(10)
    assert not thread.is_alive()
    assert fake.count("delete", "pytorchjobs") == 0


# --- stopping

CODE = """
import signal, sys
from pathlib import Path
from kubernetes import client
from immr.launch.job_shape import JobShape, for_run
from immr.launch.kubeflow import KubeflowLauncher
from immr.launch.launcher import TrainingJob
configuration = client.Configuration()
configuration.host, home = sys.argv[1], Path(sys.argv[2])
signal.signal(signal.SIGINT, signal.default_int_handler)  # otherwise ignored in the background
launcher = KubeflowLauncher(client.ApiClient(configuration), "immr", JobShape(), home, {})
launcher.run(TrainingJob(sys.argv[3], home / "job.json", 1))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_deletes_the_job(
    fake: FakeApi, job: TrainingJob, tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-c", CODE, fake.url, str(tmp_path), NAME]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=dict(os.environ)) as process:
        fake.wait_for(lambda: fake.count("watch", "pytorchjobs") >= 1, timeout_s=30)
        process.send_signal(number)
        try:
            assert process.wait(30) != 0
        finally:
            process.kill()
    assert ("pytorchjobs", NAMESPACE, NAME) not in fake.objects
