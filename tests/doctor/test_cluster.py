"""`immr doctor --cluster` against an API server over real HTTP."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from immr.doctor.cluster import PERMISSIONS, examine_cluster
from immr.doctor.finding import Finding
from immr.doctor.operators import OPERATORS
from immr.settings import Settings
from tests.cluster.test_api import kubeconfig
from tests.k8s import fake_api
from tests.k8s.fake_api import CUT, FakeApi, Fault
from tests.k8s.rbac import allowed

HOME = "immr-home"


@pytest.fixture
def fake() -> Iterator[FakeApi]:
    """A cluster with everything."""
    with fake_api.serving() as api:
        api.kinds = {
            f"{one.group}/{one.version}": sum((o.plurals for o in OPERATORS if o.group == one.group), ())
            for one in OPERATORS
        }
        api.kinds["kubeflow.org/v1"] = ("pytorchjobs",)
        for kind, name in (
            ("configmaps", "immr-settings"),
            ("configmaps", "immr-roles"),
            ("secrets", "immr-click-tokens"),
            ("secrets", "immr-postgres"),
            ("servingruntimes", "immr-bento"),
        ):
            api.put(kind, {"metadata": {"name": name, "namespace": "immr"}})
        api.put("configmaps", workflow_defaults("OnError"))
        claim(api, HOME, "Bound")
        for service in ("mlflow", "qdrant", "gateway", "page"):
            endpoints(api, service, ready=True)
        yield api


def workflow_defaults(policy: str) -> dict[str, Any]:
    defaults = f"spec: {{templateDefaults: {{retryStrategy: {{limit: '2', retryPolicy: {policy}}}}}}}"
    metadata = {"name": "workflow-controller-configmap", "namespace": "kubeflow"}
    return {"metadata": metadata, "data": {"workflowDefaults": defaults}}


def claim(fake: FakeApi, name: str, phase: str) -> None:
    spec = {"accessModes": ["ReadWriteMany"], "storageClassName": "files"}
    metadata = {"name": name, "namespace": "immr"}
    fake.put("persistentvolumeclaims", {"metadata": metadata, "spec": spec, "status": {"phase": phase}})


def endpoints(fake: FakeApi, service: str, ready: bool) -> None:
    labels = {"kubernetes.io/service-name": service}
    metadata = {"name": f"{service}-abc", "namespace": "immr", "labels": labels}
    fake.put("endpointslices", {"metadata": metadata, "endpoints": [{"conditions": {"ready": ready}}]})


def found(fake: FakeApi) -> list[Finding]:
    return examine_cluster(fake_api.client_of(fake), Settings(launch_url="kubeflow://immr"))


def wrong(fake: FakeApi) -> dict[str, Finding]:
    return {one.what: one for one in found(fake) if not one.ok}


def test_a_complete_cluster_passes(fake: FakeApi) -> None:
    assert wrong(fake) == {}
    assert {call.verb for call in fake.calls} == {
        "get",
        "list",
        "create",
    }  # a review is an object that the client creates
    assert {call.resource for call in fake.calls if call.verb == "create"} == {"selfsubjectaccessreviews"}


def test_a_missing_operator_and_an_old_one_are_named(fake: FakeApi) -> None:
    del fake.kinds["kubeflow.org/v1"]
    fake.kinds["gateway.networking.k8s.io/v1"] = ("gateways",)
    findings = wrong(fake)
    assert "neither PyTorchJob" in findings["operator of training"].found
    assert "install the training operator 1.9" in findings["operator of training"].remedy
    assert "has no httproutes" in findings["Gateway API (gateways, httproutes)"].found


def test_operators_that_the_settings_use_are_needed(fake: FakeApi) -> None:
    del fake.kinds["keda.sh/v1alpha1"], fake.kinds["jobset.x-k8s.io/v1alpha2"]
    assert wrong(fake) == {}
    scaled = Settings(launch_url="kubeflow://immr", deploy_url="kserve://immr?in_flight_target=8")
    (keda,) = (one for one in examine_cluster(fake_api.client_of(fake), scaled) if not one.ok)
    assert keda.what.startswith("KEDA") and "keda.sh/v1alpha1" in keda.remedy
    fake.kinds["keda.sh/v1alpha1"] = ("scaledobjects",)
    del fake.kinds["external.metrics.k8s.io/v1beta1"]  # its definitions are there, but it does not run
    (metrics,) = (one for one in examine_cluster(fake_api.client_of(fake), scaled) if not one.ok)
    assert metrics.what == "KEDA's metrics (externalmetrics)" and metrics.found == "not found"
    assert metrics.remedy.startswith("check that KEDA runs")
    fake.kinds["trainer.kubeflow.org/v1alpha1"] = fake.kinds.pop("kubeflow.org/v1") and ("trainjobs",)
    fake.put("trainingruntimes", {"metadata": {"name": "immr-training", "namespace": "immr"}})
    assert list(wrong(fake)) == ["JobSet, for TrainJobs (jobsets)"]


def test_the_operator_of_training_is_named(fake: FakeApi) -> None:
    def training(url: str = "kubeflow://immr") -> dict[str, Finding]:
        findings = examine_cluster(fake_api.client_of(fake), Settings(launch_url=url))
        return {one.what: one for one in findings if "trainjob" in one.what.lower() or "training" in one.what}

    assert training()["operator of training"].found == "PyTorchJob"
    missing = training("kubeflow://immr?operator=trainjob")["operator of training"]
    assert not missing.ok and "this cluster does not have" in missing.found
    fake.kinds["trainer.kubeflow.org/v1alpha1"] = ("trainjobs",)
    assert training()["operator of training"].found == "PyTorchJob (also there: TrainJob)"
    del fake.kinds["kubeflow.org/v1"]
    found = training()
    assert found["operator of training"].found == "TrainJob"
    assert found["permission: trainjobs in immr"].ok and "permission: pytorchjobs in immr" not in found
    assert "components/trainer" in found["runtime of TrainJobs in immr"].remedy
    fake.put("trainingruntimes", {"metadata": {"name": "immr-training", "namespace": "immr"}})
    assert training()["runtime of TrainJobs in immr"].ok


def test_an_old_kubernetes_is_reported_and_the_rest_checked(fake: FakeApi) -> None:
    fake.kubernetes = "v1.31.4-gke.100"
    findings = wrong(fake)
    assert findings["Kubernetes"].found == "v1.31.4-gke.100"
    assert "needs 1.32" in findings["Kubernetes"].remedy
    assert len(found(fake)) > 1


def test_bentos_as_images_need_a_newer_kubernetes(fake: FakeApi) -> None:
    fake.kubernetes = "v1.32.1"
    settings = Settings(
        launch_url="kubeflow://immr", deploy_url="kserve://?storage=oci://registry.example/immr"
    )
    server = examine_cluster(fake_api.client_of(fake), settings)[0]
    assert not server.ok and server.remedy == "upgrade: storage=oci:// needs 1.33"
    assert found(fake)[0].ok


def test_operators_that_only_some_overlays_use_may_be_missing(fake: FakeApi) -> None:
    del fake.kinds["kafka.strimzi.io/v1"]
    assert wrong(fake) == {}


def test_a_server_that_replaces_no_lost_pods_is_reported(fake: FakeApi) -> None:
    fake.put("configmaps", workflow_defaults("OnFailure"))
    (finding,) = wrong(fake).values()
    assert "a step whose pod is lost fails the run" in finding.found
    assert "retryPolicy: OnError" in finding.remedy


def test_an_account_of_another_namespace_does_not_check_the_retries(fake: FakeApi) -> None:
    fake.faults = [Fault("get", "configmaps", 403, name="workflow-controller-configmap")]
    findings = {one.what: one for one in found(fake)}
    retries = findings["retries of Kubeflow Pipelines"]
    assert retries.ok and retries.found.startswith("not checked")


def test_permissions_are_checked_verb_by_verb(fake: FakeApi) -> None:
    fake.allowed = lambda one: (one["resource"], one["verb"]) != ("pytorchjobs", "delete")
    findings = wrong(fake)
    assert set(findings) == {"permission: pytorchjobs in immr"}
    assert findings["permission: pytorchjobs in immr"].found == "not allowed: delete"
    assert "Role immr-pipeline" in findings["permission: pytorchjobs in immr"].remedy


def test_the_checked_permissions_are_those_of_the_role() -> None:
    given = {(group, resource, verb) for group, resource, verb, _ in allowed("pipeline-role.yaml")}
    asked = {
        (group, f"{resource}/{sub}" if sub else resource, verb)
        for group, resource, sub, verbs in PERMISSIONS
        for verb in verbs
    }
    assert asked == given


def test_the_tools_pod_may_read_what_is_checked_but_no_secret(fake: FakeApi) -> None:
    fake.kinds = {"trainer.kubeflow.org/v1alpha1": ("trainjobs",)} | fake.kinds
    fake.kinds["kubeflow.org/v1"] = ()
    fake.put("trainingruntimes", {"metadata": {"name": "immr-training", "namespace": "immr"}})
    fake.faults = [Fault("get", "secrets", 403, times=2)]
    assert wrong(fake) == {}
    asked = {
        (call.group, call.resource, call.verb, call.name)
        for call in fake.calls
        if call.verb != "create" and call.resource != "secrets" and call.name != "immr-roles"
    }
    assert asked == allowed("tools-role.yaml")


def test_missing_objects_of_an_overlay_are_named(fake: FakeApi) -> None:
    fake.remove("secrets", "immr", "immr-click-tokens")
    fake.remove("persistentvolumeclaims", "immr", HOME)
    endpoints(fake, "mlflow", ready=False)
    findings = wrong(fake)
    assert "create secret generic immr-click-tokens" in findings["key of click tokens in immr"].remedy
    assert findings["claim immr-home"].found == "not found"
    assert findings["endpoints of mlflow"].found == "ready pods: 0 of 1"


@pytest.mark.parametrize(("binding", "well"), [("WaitForFirstConsumer", True), ("Immediate", False)])
def test_a_pending_claim_is_fine_if_it_waits_for_its_first_pod(
    fake: FakeApi, binding: str, well: bool
) -> None:
    claim(fake, HOME, "Pending")
    fake.put("storageclasses", {"metadata": {"name": "files"}, "volumeBindingMode": binding})
    assert ("claim immr-home" not in wrong(fake)) == well


@pytest.mark.parametrize(
    ("status", "reason"),
    [(403, "no permission"), (500, "answers 500"), (404, "not found"), (CUT, "no answer")],
)
def test_a_refused_call_is_reported_and_the_rest_checked(
    fake: FakeApi, status: int | str, reason: str
) -> None:
    fake.faults = [Fault("get", "configmaps", status, name="immr-settings")]
    findings = wrong(fake)
    assert set(findings) == {"settings in immr"}
    assert reason in findings["settings in immr"].found and findings["settings in immr"].remedy


def test_an_unreachable_server_is_one_line() -> None:
    (only,) = examine_cluster(client_of_nobody(), Settings(launch_url="kubeflow://immr"))
    assert not only.ok and only.what == "Kubernetes" and only.remedy


def client_of_nobody() -> Any:
    from kubernetes import client

    configuration = client.Configuration()
    configuration.host, configuration.retries = "http://127.0.0.1:9", False
    return client.ApiClient(configuration)


def test_the_command_prints_a_table_and_fails(fake: FakeApi, tmp_path: Path) -> None:
    fake.remove("configmaps", "immr", "immr-roles")
    done = subprocess.run(
        [sys.executable, "-c", "from immr.cli import main; main()", "doctor", "--cluster"],
        env={
            "PATH": "/usr/bin",
            "COLUMNS": "200",
            "KUBECONFIG": kubeconfig(fake, tmp_path / "config"),
            "IMMR_LAUNCH_URL": "kubeflow://immr",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 3, done.stderr
    assert "roles in immr" in done.stdout and "kubectl apply -k" in done.stdout
