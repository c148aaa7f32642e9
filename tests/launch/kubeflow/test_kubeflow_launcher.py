"""The launcher against an API server over real HTTP: the same cases for PyTorchJobs and TrainJobs."""

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
from immr.launch.kubeflow.job_kind import JobKind
from immr.launch.kubeflow.job_shape import JobShape, for_run
from immr.launch.kubeflow.kubeflow_launcher import KubeflowLauncher
from immr.launch.kubeflow.operators import KINDS
from immr.launch.launcher import TrainingJob
from tests.k8s import fake_api
from tests.k8s.fake_api import CUT, FakeApi, Fault

NAMESPACE = "immr"
NAME = "immr-0123456789ab"


class Cluster(FakeApi):
    """An API server with one operator of training."""

    kind: JobKind

    @property
    def plural(self) -> str:
        return self.kind.plural

    def pod(self, place: int, **status: Any) -> dict[str, Any]:
        """The pod of the first or second process."""
        labels = {self.kind.pod_label: NAME, "batch.kubernetes.io/job-completion-index": str(place)}
        metadata = {"name": self.pod_name(place), "namespace": NAMESPACE, "labels": labels}
        return {"metadata": metadata, "status": {"phase": "Running", **status}}

    def pod_name(self, place: int) -> str:
        if self.plural == "trainjobs":
            return f"{NAME}-node-0-{place}-x7k2p"
        return f"{NAME}-{('master', 'worker')[place]}-0"


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def fake(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with fake_api.serving(Cluster()) as api:
        api.kind = request.param
        api.kinds = {f"{api.kind.group}/{api.kind.version}": (api.plural,)}
        yield api


def launcher(fake: Cluster, home: Path, poll_s: float = 1.0, **shape: Any) -> KubeflowLauncher:
    return KubeflowLauncher(
        fake_api.client_of(fake), NAMESPACE, JobShape(**shape), home, {"IMMR_MODEL_NAME": "immr"}, poll_s
    )


def condition(kind: str, message: str = "") -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": "True", "reason": f"Job{kind}", "message": message}]}


def finish(fake: Cluster, kind: str = "", message: str = "") -> None:
    fake.change(fake.plural, NAMESPACE, NAME, status=condition(kind or fake.kind.succeeded, message))


def finish_when_created(fake: Cluster, kind: str = "", message: str = "") -> None:
    fake.on_create = lambda resource, body: finish(fake, kind, message)


def test_a_job_that_cannot_run_is_refused_before_any_call(
    fake: Cluster, job: TrainingJob, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="do not fill pods of 2"):
        launcher(fake, tmp_path, processes_per_pod=2).run(replace(job, processes=3))
    with pytest.raises(TrainingError, match="is not below IMMR_HOME"):
        launcher(fake, tmp_path / "elsewhere").run(job)
    with pytest.raises(TrainingError, match=r"job file .* does not exist"):
        launcher(fake, tmp_path).run(replace(job, job_file=tmp_path / "none.json"))
    assert fake.calls == []


def test_a_shape_is_read_from_a_url_query() -> None:
    assert JobShape.from_query({"gpus": "2", "queue": "a"}) == JobShape(gpus=2, queue="a")
    with pytest.raises(SettingsError, match=r"unknown name 'gpu': use one of .*processes_per_pod"):
        JobShape.from_query({"gpu": "2"})
    with pytest.raises(SettingsError, match="whole number"):
        JobShape.from_query({"gpus": "two"})


# --- creating and waiting


def test_a_job_is_created_and_watched_and_its_log_shown(
    fake: Cluster, job: TrainingJob, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fake.logs[fake.pod_name(0)] = ["epoch 1 of 2", "epoch 2 of 2"]
    thread = threading.Thread(target=launcher(fake, tmp_path, poll_s=5).run, args=(job,))
    thread.start()
    fake.wait_for(lambda: fake.count("watch", fake.plural) == 1)
    fake.put("pods", fake.pod(0))
    fake.change(fake.plural, NAMESPACE, NAME, status=condition("Running"))
    fake.wait_for(lambda: fake.count("get", "pods/log") >= 1)
    start = time.monotonic()
    finish(fake)
    thread.join(10)
    assert not thread.is_alive()
    assert time.monotonic() - start < 4  # the watch reported it, not the next poll
    assert capfd.readouterr().err.count("epoch 2 of 2") == 1
    assert (fake.plural, NAMESPACE, NAME) in fake.objects  # the cluster deletes it after the TTL


def test_a_retry_waits_for_its_own_job(fake: Cluster, job: TrainingJob, tmp_path: Path) -> None:
    finish_when_created(fake)
    launcher(fake, tmp_path).run(job)
    launcher(fake, tmp_path).run(job)
    created = [body for call, body in fake.bodies if call.verb == "create"]
    assert len(created) == 2  # the second was answered with 409
    assert fake.count("delete", fake.plural) == 0


def test_a_failed_job_of_an_earlier_attempt_is_replaced(
    fake: Cluster, job: TrainingJob, tmp_path: Path
) -> None:
    finish_when_created(fake, "Failed")
    with pytest.raises(TrainingError):
        launcher(fake, tmp_path).run(job)
    finish_when_created(fake)
    launcher(fake, tmp_path).run(job)
    assert fake.count("delete", fake.plural) == 1


def test_a_job_that_immr_did_not_create_is_not_touched(
    fake: Cluster, job: TrainingJob, tmp_path: Path
) -> None:
    fake.put(fake.plural, {"metadata": {"name": NAME, "namespace": NAMESPACE}})
    with pytest.raises(TrainingError, match="IMMR did not create"):
        launcher(fake, tmp_path).run(job)
    assert fake.count("delete", fake.plural) == 0


@pytest.mark.parametrize("status", [CUT, 410, 500, 429])
def test_a_broken_watch_is_resumed(
    fake: Cluster, job: TrainingJob, tmp_path: Path, status: int | str
) -> None:
    fake.faults = [Fault("watch", fake.plural, status, times=2)]
    thread = threading.Thread(target=launcher(fake, tmp_path).run, args=(job,))
    thread.start()
    fake.wait_for(lambda: fake.count("watch", fake.plural) == 3)
    finish(fake)
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("verb", ["create", "get"])
@pytest.mark.parametrize("status", [429, 500, 503, CUT])
def test_a_busy_server_is_waited_for(
    fake: Cluster, job: TrainingJob, tmp_path: Path, verb: str, status: int | str
) -> None:
    finish_when_created(fake)
    fake.faults = [Fault(verb, fake.plural, status, headers={"Retry-After": "0.1"})]
    launcher(fake, tmp_path).run(job)
    assert fake.count(verb, fake.plural) >= 2


def test_an_outage_of_the_api_does_not_end_training(fake: Cluster, job: TrainingJob, tmp_path: Path) -> None:
    """Far more failures than the retries of one call allow; the job keeps running meanwhile."""
    thread = threading.Thread(target=launcher(fake, tmp_path).run, args=(job,))
    thread.start()
    fake.wait_for(lambda: fake.count("watch", fake.plural) >= 1)
    for verb, resource in (("watch", fake.plural), ("get", fake.plural), ("list", "pods")):
        fake.faults.append(Fault(verb, resource, 503, times=20, headers={"Retry-After": "0.02"}))
    fake.wait_for(lambda: fake.count("list", "pods") >= 22)
    finish(fake)
    thread.join(20)
    assert not thread.is_alive()
    assert (fake.plural, NAMESPACE, NAME) in fake.objects


def test_retry_after_is_respected(fake: Cluster, job: TrainingJob, tmp_path: Path) -> None:
    finish_when_created(fake)
    fake.faults = [Fault("create", fake.plural, 429, headers={"Retry-After": "1"})]
    start = time.monotonic()
    launcher(fake, tmp_path).run(job)
    assert time.monotonic() - start >= 1


@pytest.mark.parametrize(
    ("status", "remedy"),
    [(403, "compare its Role"), (404, "operator installed"), (422, "IMMR_LAUNCH_URL")],
)
def test_a_refusal_names_a_remedy(
    fake: Cluster, job: TrainingJob, tmp_path: Path, status: int, remedy: str
) -> None:
    fake.faults = [Fault("create", fake.plural, status)]
    with pytest.raises(TrainingError, match=f"answers {status}, .*{remedy}"):
        launcher(fake, tmp_path).run(job)


def test_a_job_deleted_during_training_is_an_error(fake: Cluster, job: TrainingJob, tmp_path: Path) -> None:
    fake.on_create = lambda resource, body: fake.remove(fake.plural, NAMESPACE, NAME)
    with pytest.raises(TrainingError, match="was deleted during training"):
        launcher(fake, tmp_path).run(job)


def test_a_finished_job_whose_output_is_gone_is_replaced(
    fake: Cluster, job: TrainingJob, tmp_path: Path
) -> None:
    finish_when_created(fake)
    job = replace(job, out=tmp_path / "version")
    (tmp_path / "version").mkdir()
    launcher(fake, tmp_path).run(job)
    launcher(fake, tmp_path).run(job)
    assert fake.count("delete", fake.plural) == 0
    (tmp_path / "version").rmdir()
    fake.on_create = lambda resource, body: ((tmp_path / "version").mkdir(), finish(fake))[1]
    launcher(fake, tmp_path).run(job)
    assert fake.count("delete", fake.plural) == 1


def test_a_job_that_ends_without_its_output_is_an_error(
    fake: Cluster, job: TrainingJob, tmp_path: Path
) -> None:
    finish_when_created(fake)
    with pytest.raises(TrainingError, match=r"/version does not exist: is the claim immr-home"):
        launcher(fake, tmp_path, output_grace_s=0).run(replace(job, out=tmp_path / "version"))


# --- which operator


def test_a_cluster_without_an_operator_is_an_error(fake: Cluster, job: TrainingJob, tmp_path: Path) -> None:
    fake.kinds = {}
    with pytest.raises(SettingsError, match=r"neither PyTorchJob .* nor TrainJob .* install one"):
        launcher(fake, tmp_path).run(job)


def test_a_cluster_with_both_runs_pytorchjobs_unless_the_url_names_the_other(
    fake: Cluster, job: TrainingJob, tmp_path: Path
) -> None:
    fake.kinds = {f"{kind.group}/{kind.version}": (kind.plural,) for kind in KINDS}
    for kind, operator in ((KINDS[0], ""), (KINDS[1], "trainjob"), (KINDS[0], "pytorchjob")):
        fake.kind, before = kind, fake.count("create", kind.plural)
        finish_when_created(fake)
        launcher(fake, tmp_path, operator=operator).run(job)
        assert fake.count("create", kind.plural) == before + 1
    with pytest.raises(SettingsError, match="use one of pytorchjob, trainjob"):
        launcher(fake, tmp_path, operator="mpijob").run(job)


def test_finished_jobs_expire(fake: Cluster, job: TrainingJob, tmp_path: Path) -> None:
    """The training operator deletes them itself; Trainer keeps them."""
    finish_when_created(fake)
    launcher(fake, tmp_path).run(job)
    end = condition(fake.kind.succeeded)["conditions"][0] | {"lastTransitionTime": "2024-05-01T12:00:00Z"}
    fake.change(fake.plural, NAMESPACE, NAME, status={"conditions": [end]})
    fake.on_create = lambda resource, body: fake.change(
        fake.plural, NAMESPACE, "immr-another", status=condition(fake.kind.succeeded)
    )
    launcher(fake, tmp_path).run(replace(job, name="immr-another"))
    assert ((fake.plural, NAMESPACE, NAME) in fake.objects) == fake.kind.expires


# --- ownership


def test_stop_deletes_the_running_jobs_of_a_run(fake: Cluster, job: TrainingJob, tmp_path: Path) -> None:
    finish_when_created(fake)
    launcher(fake, tmp_path, run="a").run(job)
    launcher(fake, tmp_path, run="b").run(job)  # adopted: it is b's now
    assert launcher(fake, tmp_path).stop("b") == []  # it has ended by itself
    fake.change(fake.plural, NAMESPACE, NAME, status=condition("Running"))
    assert launcher(fake, tmp_path).stop("a") == []
    assert launcher(fake, tmp_path).stop("b") == [NAME]
    assert (fake.plural, NAMESPACE, NAME) not in fake.objects


def test_a_launch_url_names_its_run() -> None:
    assert for_run("local://", "a", 1) == "local://"
    query = dict(parse_qsl(urlsplit(for_run("kubeflow://immr?processes_per_pod=2", "a", 2)).query))
    assert JobShape.from_query(query) == JobShape(processes_per_pod=2, run="a", gpus=4)
    assert urlsplit(for_run("kubeflow://?cpu=2", "a")).hostname is None


# --- what goes wrong in pods


def event(reason: str, message: str) -> dict[str, Any]:
    about = {"name": NAME}
    metadata = {"name": f"{NAME}.{reason}", "namespace": NAMESPACE}
    return {
        "metadata": metadata,
        "involvedObject": about,
        "reason": reason,
        "message": message,
        "type": "Warning",
    }


def test_rejected_pods_end_the_wait_after_the_grace_period(
    fake: Cluster, job: TrainingJob, tmp_path: Path
) -> None:
    fake.put("pods", fake.pod(0))
    fake.put("events", event("FailedCreatePod", 'violates PodSecurity "restricted:latest"'))
    with pytest.raises(TrainingError, match=r"FailedCreatePod: violates PodSecurity.*restricted namespace"):
        launcher(fake, tmp_path, pending_grace_s=1).run(job)


def test_a_missing_operator_is_suspected(fake: Cluster, job: TrainingJob, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"0 of 2 pods exist; is the operator running"):
        launcher(fake, tmp_path, pending_grace_s=1).run(job)


def test_pods_that_the_operator_is_about_to_create_are_not_a_problem(
    fake: Cluster, job: TrainingJob, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    thread = threading.Thread(target=launcher(fake, tmp_path).run, args=(job,))
    thread.start()
    fake.wait_for(lambda: fake.count("watch", fake.plural) >= 2)
    finish(fake)
    thread.join(10)
    assert "NotCreated" not in caplog.text


def test_a_volume_that_cannot_be_mounted_ends_the_wait(
    fake: Cluster, job: TrainingJob, tmp_path: Path
) -> None:
    fake.put("pods", fake.pod(0, phase="Pending"))
    fake.put("pods", fake.pod(1, phase="Pending"))
    failed = event("FailedMount", 'secret "none" not found')
    fake.put("events", failed | {"involvedObject": {"kind": "Pod", "name": fake.pod_name(0)}})
    failure = f'{fake.pod_name(0)} is FailedMount: secret "none" not found; is the claim'
    with pytest.raises(TrainingError, match=failure):
        launcher(fake, tmp_path, pending_grace_s=1).run(job)


def test_the_pods_of_a_failed_job_keep_their_logs_until_we_read_them(
    fake: Cluster, job: TrainingJob, tmp_path: Path
) -> None:
    fake.put("pods", fake.pod(0))
    fake.logs[fake.pod_name(0)] = ["Killed"]
    finish_when_created(fake, "Failed", "backoff limit")
    with pytest.raises(TrainingError, match="Killed"):
        launcher(fake, tmp_path).run(job)
    assert (fake.plural, NAMESPACE, NAME) not in fake.objects  # its pods were still running


def test_a_queued_job_may_wait(fake: Cluster, job: TrainingJob, tmp_path: Path) -> None:
    """As Kueue holds it: suspended, without pods."""

    def hold(resource: str, body: dict[str, Any]) -> None:
        held = {"suspend": True}
        if fake.kind.name == "PyTorchJob":
            held = {"runPolicy": body["spec"]["runPolicy"] | held}
        fake.change(fake.plural, NAMESPACE, NAME, spec=body["spec"] | held)

    fake.on_create = hold
    thread = threading.Thread(target=launcher(fake, tmp_path, pending_grace_s=0).run, args=(job,))
    thread.start()
    fake.wait_for(lambda: fake.count("watch", fake.plural) >= 2)
    assert thread.is_alive() and fake.count("list", "events") == 0
    finish(fake)
    thread.join(10)
    assert not thread.is_alive()


def test_a_failure_reports_the_reason_and_the_last_lines(
    fake: Cluster, job: TrainingJob, tmp_path: Path
) -> None:
    ended = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    fake.put("pods", fake.pod(0))
    fake.put("pods", fake.pod(1, phase="Failed", containerStatuses=[{"name": "c", "lastState": ended}]))
    fake.logs[fake.pod_name(1)] = ["loading", "killed"]
    finish_when_created(fake, "Failed", "job has reached the backoff limit")
    with pytest.raises(
        TrainingError,
        match=rf"(?s)backoff limit.*{fake.pod_name(1)} is OOMKilled.*more memory.*loading\nkilled",
    ):
        launcher(fake, tmp_path).run(job)


def test_an_error_of_training_itself_is_the_whole_reason(
    fake: Cluster, job: TrainingJob, tmp_path: Path
) -> None:
    fake.put("pods", fake.pod(0, phase="Failed"))
    fake.logs[fake.pod_name(0)] = ["epoch 1", "training error: the loss is NaN: lower it", "Traceback"]
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
            {"name": "c", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such"}}}
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
    fake: Cluster, job: TrainingJob, tmp_path: Path, reason: str
) -> None:
    fake.put("pods", fake.pod(0, **STUCK[reason]))
    start = time.monotonic()
    with pytest.raises(TrainingError, match=f"cannot start: pod {fake.pod_name(0)} is {reason}"):
        launcher(fake, tmp_path, pending_grace_s=1, node_grace_s=1).run(job)
    assert 1 <= time.monotonic() - start < 5
    assert fake.count("delete", fake.plural) == 1


def test_a_pod_scheduled_within_the_grace_period_is_fine(
    fake: Cluster, job: TrainingJob, tmp_path: Path
) -> None:
    fake.put("pods", fake.pod(0, **STUCK["Unschedulable"]))
    thread = threading.Thread(
        target=launcher(fake, tmp_path, pending_grace_s=60, node_grace_s=60).run, args=(job,)
    )
    thread.start()
    fake.wait_for(lambda: fake.count("watch", fake.plural) >= 1)
    fake.put("pods", fake.pod(0))
    finish(fake)
    thread.join(10)
    assert not thread.is_alive()
    assert fake.count("delete", fake.plural) == 0


# --- stopping

CODE = """
import signal, sys
from pathlib import Path
from kubernetes import client
from immr.launch.kubeflow.job_shape import JobShape, for_run
from immr.launch.kubeflow.kubeflow_launcher import KubeflowLauncher
from immr.launch.launcher import TrainingJob
configuration = client.Configuration()
configuration.host, home = sys.argv[1], Path(sys.argv[2])
signal.signal(signal.SIGINT, signal.default_int_handler)  # otherwise ignored in the background
launcher = KubeflowLauncher(client.ApiClient(configuration), "immr", JobShape(), home, {})
launcher.run(TrainingJob(sys.argv[3], home / "job.json", 1))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_deletes_the_job(
    fake: Cluster, job: TrainingJob, tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-c", CODE, fake.url, str(tmp_path), NAME]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=dict(os.environ)) as process:
        fake.wait_for(lambda: fake.count("watch", fake.plural) >= 1, timeout_s=30)
        process.send_signal(number)
        try:
            assert process.wait(30) != 0
        finally:
            process.kill()
    assert (fake.plural, NAMESPACE, NAME) not in fake.objects
