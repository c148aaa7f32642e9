"""Every call that the code makes is allowed by the pipeline's Role, and the Role allows nothing else."""

from __future__ import annotations

import threading
from pathlib import Path

from immr.deploy.inference_service import ServingShape
from immr.deploy.kserve import ROLES, KserveDeployer
from immr.launch.kubeflow.job_kind import JobKind
from immr.launch.kubeflow.job_shape import JobShape
from immr.launch.kubeflow.kubeflow_launcher import KubeflowLauncher
from immr.launch.kubeflow.operators import KINDS
from immr.launch.launcher import TrainingJob
from tests.k8s import fake_api
from tests.k8s.fake_api import FakeApi
from tests.k8s.rbac import allowed
from tests.support import tiny_version

NAME = "immr-0123456789ab"


def train(fake: FakeApi, kind: JobKind, folder: Path) -> None:
    """Train to the end, then again: the failed job of the first attempt is replaced."""
    fake.kinds = {f"{kind.group}/{kind.version}": (kind.plural,)}
    labels = {kind.pod_label: NAME, "batch.kubernetes.io/job-completion-index": "0"}
    (folder / "job.json").write_text("{}")
    launcher = KubeflowLauncher(fake_api.client_of(fake), "immr", JobShape(), folder, {}, poll_s=1)
    job = TrainingJob(NAME, folder / "job.json", 1)
    thread = threading.Thread(target=launcher.run, args=(job,))
    thread.start()
    fake.wait_for(lambda: fake.count("watch", kind.plural) >= 1)  # no pod yet, so events are read
    pod = {"metadata": {"name": f"{NAME}-master-0", "namespace": "immr", "labels": labels}}
    fake.put("pods", pod | {"status": {"phase": "Running"}})
    read = fake.count("get", "pods/log")
    fake.wait_for(lambda: fake.count("get", "pods/log") > read)
    fake.change(kind.plural, "immr", NAME, status=status(kind.succeeded))
    thread.join(10)
    fake.change(kind.plural, "immr", NAME, status=status("Failed"))
    fake.on_create = lambda resource, body: fake.change(
        kind.plural, "immr", NAME, status=status(kind.succeeded)
    )
    launcher.run(job)
    KubeflowLauncher(fake_api.client_of(fake), "immr", JobShape(run="b"), folder, {}).run(job)
    fake.change(kind.plural, "immr", NAME, status=status("Running"))
    assert launcher.stop("b") == [NAME]


def status(kind: str) -> dict[str, object]:
    return {"conditions": [{"type": kind, "status": "True"}]}


def deploy(fake: FakeApi) -> None:
    fake.put("configmaps", {"metadata": {"name": ROLES, "namespace": "immr"}})
    fake.on_create = lambda resource, body: fake_api.kserve_starts(fake, body)
    deployer = KserveDeployer(fake_api.client_of(fake), "immr", ServingShape(), poll_s=0.05)
    for number in (1, 2, 2):
        deployer.apply(tiny_version.version(number), f"immr-search:immr-{number}", "champion")
    deployer.current()
    deployer.remove("champion")


def test_the_role_allows_exactly_the_calls_of_the_code(tmp_path: Path) -> None:
    with fake_api.serving() as fake:
        for kind in KINDS:
            train(fake, kind, tmp_path)
            fake.remove("pods", "immr", f"{NAME}-master-0")
            fake.on_create = lambda resource, body: None
        deploy(fake)
        by_name = {(group, resource) for group, resource, _, name in allowed("pipeline-role.yaml") if name}
        asked = {
            (
                call.group,
                call.resource,
                call.verb,
                call.name if (call.group, call.resource) in by_name else "",
            )
            for call in fake.calls
        }
    # watching a list needs the verb `watch`; clusters also require `list` to start
    assert asked | {("kubeflow.org", "pytorchjobs", "list", "")} == allowed("pipeline-role.yaml")
    assert {call.namespace for call in fake.calls} == {"immr"}
