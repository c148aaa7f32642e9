"""The deployer against an API server over real HTTP, and its object against KServe's own definition."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from immr.cluster.objects import CONTENT
from immr.deploy.deployer import Deployment
from immr.deploy.inference_service import ServingShape, inference_service, mark_content
from immr.deploy.kserve import ROLES, KserveDeployer
from immr.errors import DeployError, SettingsError
from tests.k8s import fake_api, schemas
from tests.k8s.fake_api import FakeApi, Fault
from tests.support import tiny_version

KIND = "inferenceservices"


@pytest.fixture
def fake() -> Iterator[FakeApi]:
    """Every created service is ready at once."""
    with fake_api.serving() as api:
        api.put("configmaps", {"metadata": {"name": ROLES, "namespace": "immr"}})
        api.on_create = lambda resource, body: fake_api.kserve_starts(api, body)
        yield api


def deployer(fake: FakeApi, **shape: Any) -> KserveDeployer:
    return KserveDeployer(fake_api.client_of(fake), "immr", ServingShape(**shape), poll_s=0.05)


def names(fake: FakeApi) -> set[str]:
    return {name for kind, _, name in fake.objects if kind == KIND}


def deploy(fake: FakeApi, number: int, role: Any) -> Deployment:
    return deployer(fake).apply(tiny_version.version(number), f"immr-search:immr-{number}", role)


def test_the_object_matches_kserves_definition() -> None:
    body = inference_service(
        tiny_version.version(3), "immr-search:immr-3", "immr", ServingShape(max_replicas=4)
    )
    predictor = body["spec"]["predictor"]
    assert body["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Standard"
    assert predictor["model"]["modelFormat"] == {"name": "immr-bento"}
    assert predictor["model"]["storageUri"] == "pvc://immr-home/bentoml/bentos/immr-search/immr-3"
    assert predictor["automountServiceAccountToken"] is False
    assert predictor["model"]["protocolVersion"] == "v2"
    assert body["metadata"]["labels"]["networking.kserve.io/visibility"] == "cluster-local"
    assert predictor["securityContext"]["fsGroup"] == predictor["securityContext"]["runAsUser"]
    schemas.needed()
    assert schemas.problems(body) == []


def test_an_invalid_object_name_is_refused() -> None:
    with pytest.raises(DeployError, match="IMMR_MODEL_NAME"):
        inference_service(
            replace(tiny_version.version(), name="my_model"), "immr-search:1", "immr", ServingShape()
        )
    with pytest.raises(DeployError, match="has no version"):
        inference_service(tiny_version.version(), "immr-search", "immr", ServingShape())
    with pytest.raises(SettingsError, match=r"use one of .*max_replicas"):
        ServingShape.from_query({"replicas": "2"})
    assert ServingShape.from_query({"max_replicas": "2"}).max_replicas == 2


def test_versions_replace_each_other_in_their_roles(fake: FakeApi) -> None:
    first = deploy(fake, 1, "champion")
    assert first.url == "http://immr-1-predictor.immr.svc.cluster.local"
    second = deploy(fake, 2, "challenger")
    assert deployer(fake).current() == [first, second]
    promoted = deploy(fake, 2, "champion")
    assert deployer(fake).current()[0] == promoted
    assert names(fake) == {"immr-1", "immr-2"}  # the previous one keeps running, without a role
    deploy(fake, 3, "challenger")
    assert names(fake) == {"immr-1", "immr-2", "immr-3"}
    deploy(fake, 3, "champion")
    assert names(fake) == {"immr-2", "immr-3"}
    deployer(fake).remove("challenger")
    deployer(fake).remove("champion")
    assert names(fake) == set()


def test_several_challengers_serve_beside_the_champion(fake: FakeApi) -> None:
    roles = ("champion", "challenger", "challenger-2", "challenger-3")
    serving = [deploy(fake, number, role) for number, role in enumerate(roles, start=1)]
    assert deployer(fake).current() == serving
    deployer(fake).remove("challenger-2")  # it has lost; the test continues with the others
    assert names(fake) == {"immr-1", "immr-2", "immr-4"}
    deploy(fake, 4, "champion")
    for role in ("challenger", "challenger-3"):
        deployer(fake).remove(role)
    assert [(one.role, one.version_id) for one in deployer(fake).current()] == [("champion", "immr-4")]
    assert names(fake) == {"immr-1", "immr-4"}  # a rollback needs the champion before


def test_a_rollback_finds_the_previous_version_running(fake: FakeApi) -> None:
    deploy(fake, 1, "champion")
    deploy(fake, 2, "champion")
    assert names(fake) == {"immr-1", "immr-2"}
    assert deploy(fake, 1, "champion").version_id == "immr-1"
    assert [one.version_id for one in deployer(fake).current()] == ["immr-1"]


def test_a_previous_champion_that_loses_as_challenger_keeps_running(fake: FakeApi) -> None:
    deploy(fake, 1, "champion")
    deploy(fake, 2, "champion")
    deploy(fake, 1, "challenger")
    deployer(fake).remove("challenger")
    assert names(fake) == {"immr-1", "immr-2"}
    deploy(fake, 1, "challenger")
    deploy(fake, 3, "challenger")
    assert names(fake) == {"immr-1", "immr-2", "immr-3"}


def test_an_image_that_is_not_found_creates_nothing(fake: FakeApi) -> None:
    with pytest.raises(
        DeployError, match=r"oci\+native://127\.0\.0\.1:9/immr/immr-search:immr-1 cannot be looked up"
    ):
        deployer(fake, storage="oci://127.0.0.1:9/immr").apply(
            tiny_version.version(1), "immr-search:immr-1", "champion"
        )
    assert names(fake) == set()


def test_applying_twice_changes_nothing(fake: FakeApi) -> None:
    first = deploy(fake, 1, "champion")
    assert deploy(fake, 1, "champion") == first
    assert deployer(fake).current() == [first]


def test_removing_a_role_deletes_its_version(fake: FakeApi) -> None:
    deploy(fake, 1, "champion")
    deploy(fake, 2, "challenger")
    deployer(fake).remove("challenger")
    deployer(fake).remove("challenger")
    assert names(fake) == {"immr-1"}
    deploy(fake, 1, "challenger")
    deployer(fake).remove("challenger")
    assert [one.role for one in deployer(fake).current()] == ["champion"]


def test_a_version_that_is_not_ready_does_not_get_the_role(fake: FakeApi) -> None:
    first = deploy(fake, 1, "champion")
    failing = {
        "conditions": [{"type": "Ready", "status": "False", "reason": "PredictorNotReady"}],
        "modelStatus": {"lastFailureInfo": {"message": "no such volume"}},
    }
    fake.on_create = lambda resource, body: fake.change(
        KIND, "immr", body["metadata"]["name"], status=failing
    )
    with pytest.raises(DeployError, match=r"no such volume; Ready: PredictorNotReady.*keeps its role"):
        deployer(fake, ready_timeout_s=0).apply(tiny_version.version(2), "immr-search:immr-2", "champion")
    assert deployer(fake).current() == [first]


def again(fake: FakeApi, **shape: Any) -> Deployment:
    return deployer(fake, ready_timeout_s=0, **shape).apply(
        tiny_version.version(1), "immr-search:immr-1", "champion"
    )


def test_a_new_setting_is_deployed_once_no_old_pod_is_left(fake: FakeApi) -> None:
    """During a rollout KServe calls the service ready, and its generation is the Deployment's."""
    first = deploy(fake, 1, "champion")
    (old,) = (name for kind, _, name in fake.objects if kind == "pods")
    fake.objects[KIND, "immr", "immr-1"]["status"]["observedGeneration"] = 9  # its replicas were scaled
    with pytest.raises(DeployError, match=r"after 0 s \(1 pod has not been replaced\)"):
        again(fake, memory="2Gi")
    fake_api.kserve_starts(fake, fake.objects[KIND, "immr", "immr-1"])
    with pytest.raises(DeployError, match="1 pod has not been replaced"):
        again(fake, memory="2Gi")
    deleted = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    fake.objects["pods", "immr", old]["metadata"] |= deleted
    assert again(fake, memory="2Gi") == first


def test_a_bento_that_was_packaged_again_is_rolled_out(fake: FakeApi, tmp_path: Path) -> None:
    """Its tag and address stay, so only its content tells KServe to replace the pods."""

    def deployed(home: Path | None) -> Deployment:
        shape = ServingShape(ready_timeout_s=0)
        here = KserveDeployer(fake_api.client_of(fake), "immr", shape, home, poll_s=0.05)
        return here.apply(tiny_version.version(1), "immr-search:immr-1", "champion")

    file = tmp_path / "bentos" / "immr-search" / "immr-1" / "bento.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("labels: {immr.content: first}")
    first = deployed(tmp_path)
    before = fake.objects[KIND, "immr", "immr-1"]["metadata"]["annotations"]
    assert deployed(tmp_path) == first
    assert deployed(None) == first, "where the Bento is unknown"
    assert fake.objects[KIND, "immr", "immr-1"]["metadata"]["annotations"] == before
    file.write_text("labels: {immr.content: second}")
    with pytest.raises(DeployError, match="1 pod has not been replaced"):
        deployed(tmp_path)
    assert fake.objects[KIND, "immr", "immr-1"]["metadata"]["annotations"][CONTENT] != before[CONTENT]


def test_an_update_waits_for_a_ready_pod(fake: FakeApi) -> None:
    first = deploy(fake, 1, "champion")
    (name,) = (name for kind, _, name in fake.objects if kind == "pods")
    fake.remove("pods", "immr", name)
    with pytest.raises(DeployError, match="was not ready after"):
        again(fake)
    assert again(fake, min_replicas=0) == first


def test_a_version_is_deployed_once_all_of_its_pods_are_ready(fake: FakeApi) -> None:
    """KServe calls it ready with the one pod that it starts; the autoscaler's came a minute later, or never."""
    with pytest.raises(
        DeployError, match=r"pod of immr-1 is NotScaled: 1 pod of min_replicas=2; is the autoscaler"
    ):
        deployer(fake, min_replicas=2, pending_grace_s=0).apply(
            tiny_version.version(1), "immr-search:immr-1", "champion"
        )
    assert deployer(fake).current() == []
    (pod,) = (body for (kind, _, _), body in fake.objects.items() if kind == "pods")
    starting = {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}
    fake.put("pods", {"metadata": pod["metadata"] | {"name": "second"}, "status": starting})
    with pytest.raises(DeployError, match=r"after 0 s \(1 pod of min_replicas=2 is ready\)"):
        again(fake, min_replicas=2)
    fake.change("pods", "immr", "second", status=pod["status"])
    assert again(fake, min_replicas=2).version_id == "immr-1"


def test_a_change_of_scaling_alone_replaces_no_pod(fake: FakeApi) -> None:
    """Then the Deployment stays at its generation, while the service gets a new one."""
    first = deploy(fake, 1, "champion")
    before = fake.objects[KIND, "immr", "immr-1"]["metadata"]["annotations"]
    fake.objects[KIND, "immr", "immr-1"]["metadata"]["generation"] = 2
    assert again(fake, max_replicas=4, cpu_target=50) == first
    after = fake.objects[KIND, "immr", "immr-1"]
    assert after["metadata"]["annotations"] == before
    assert (after["spec"]["predictor"]["maxReplicas"], after["spec"]["predictor"]["scaleTarget"]) == (4, 50)


@pytest.mark.parametrize(("before", "now"), [(0, 8), (8, 0)])
def test_a_version_keeps_its_autoscaler(
    fake: FakeApi, caplog: pytest.LogCaptureFixture, before: int, now: int
) -> None:
    """KServe 0.20 leaves the old autoscaler behind, and its webhook refuses `scaleMetric` for KEDA."""
    first = deployer(fake, in_flight_target=before).apply(
        tiny_version.version(1), "immr-search:immr-1", "champion"
    )
    created = fake.objects[KIND, "immr", "immr-1"]
    assert again(fake, in_flight_target=now, max_replicas=4) == first
    assert "keeps the autoscaler it was created with" in caplog.text
    there = fake.objects[KIND, "immr", "immr-1"]
    assert there["spec"]["predictor"] == created["spec"]["predictor"] | {"maxReplicas": 4}
    assert there["metadata"]["annotations"] == created["metadata"]["annotations"]


def test_an_update_that_cannot_start_is_not_blamed_on_the_old_pods(fake: FakeApi) -> None:
    deploy(fake, 1, "champion")
    (old,) = (name for kind, _, name in fake.objects if kind == "pods")
    containers = [{"name": "kserve-container", "ready": True, **OOM}]
    fake.objects["pods", "immr", old]["status"]["containerStatuses"] = containers
    event = {"reason": "FailedCreate", "message": "exceeded quota", "type": "Warning"}
    about = {"involvedObject": {"name": "immr-1-predictor-77f"}}
    fake.put("events", event | about | {"metadata": {"name": "a", "namespace": "immr"}})
    with pytest.raises(DeployError, match=r"cannot start: pod of immr-1-predictor is FailedCreate: exceeded"):
        again(fake, memory="2Gi", pending_grace_s=0)


def test_a_change_of_roles_does_not_touch_the_services(fake: FakeApi) -> None:
    """KServe copies their labels and annotations into the pods' template: a change would restart the pods."""
    deploy(fake, 1, "champion")
    before = fake.objects[KIND, "immr", "immr-1"]
    deploy(fake, 2, "challenger")
    deploy(fake, 2, "champion")
    assert fake.objects[KIND, "immr", "immr-1"] == before
    assert fake.objects["configmaps", "immr", ROLES]["data"] == {
        "champion": "immr-2",
        "challenger": "immr-2",
        "previous": "immr-1",
    }


def test_a_headless_service_needs_the_port_of_its_pods(fake: FakeApi) -> None:
    spec = {"clusterIP": "None", "ports": [{"port": 80, "targetPort": 8080}]}
    fake.put("services", {"metadata": {"name": "immr-1-predictor", "namespace": "immr"}, "spec": spec})
    assert deploy(fake, 1, "champion").url == "http://immr-1-predictor.immr.svc.cluster.local:8080"


def test_a_namespace_without_immr_is_refused(fake: FakeApi) -> None:
    fake.remove("configmaps", "immr", ROLES)
    with pytest.raises(DeployError, match=r"namespace immr has no ConfigMap immr-roles.*apply an overlay"):
        deploy(fake, 1, "champion")
    assert names(fake) == set()


def test_a_service_that_immr_did_not_create_is_not_touched(fake: FakeApi) -> None:
    fake.put(KIND, {"metadata": {"name": "immr-1", "namespace": "immr"}})
    with pytest.raises(DeployError, match="IMMR did not create"):
        deploy(fake, 1, "champion")
    assert fake.count("patch", KIND) == 0


@pytest.mark.parametrize(("verb", "status"), [("create", 403), ("list", 403), ("patch", 500)])
def test_refusals_are_reported_and_server_errors_retried(fake: FakeApi, verb: str, status: int) -> None:
    fake.faults = [Fault(verb, KIND, status)]
    if status == 500:
        assert deploy(fake, 1, "champion").version_id == "immr-1"
        return
    with pytest.raises(DeployError, match=r"answers 403, .*compare its Role"):
        deploy(fake, 1, "champion")


def starting(**status: Any) -> dict[str, Any]:
    """A pod of the second version."""
    labels = {"serving.kserve.io/inferenceservice": "immr-2"}
    body = inference_service(tiny_version.version(2), "immr-search:immr-2", "immr", ServingShape())
    notes = {CONTENT: mark_content(body)}
    metadata = {"name": "immr-2-predictor-abc", "namespace": "immr", "labels": labels, "annotations": notes}
    return {"metadata": metadata, "status": {"phase": "Pending", **status}}


def waiting(reason: str, message: str = "", **container: Any) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return starting(containerStatuses=[{"name": "kserve-container", "state": state, **container}])


ERROR = {"lastState": {"terminated": {"reason": "Error", "exitCode": 1}}, "restartCount": 2}
OOM = {"lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}, "restartCount": 2}


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        (waiting("ImagePullBackOff", "no such image"), "is ImagePullBackOff: no such image; push the image"),
        (waiting("CrashLoopBackOff", **OOM), r"is OOMKilled: exit code 137; .*memory= in IMMR_DEPLOY_URL"),
        (waiting("CrashLoopBackOff", "back-off"), "is CrashLoopBackOff: back-off; read its log"),
        (waiting("CrashLoopBackOff", **ERROR), "is Error: exit code 1; read its log: kubectl logs immr-2-"),
    ],
)
def test_a_bento_that_cannot_start_is_explained(fake: FakeApi, pod: dict[str, Any], reason: str) -> None:
    first = deploy(fake, 1, "champion")
    fake.on_create = lambda resource, body: fake.put("pods", pod)
    with pytest.raises(DeployError, match=f"(?s)immr-2 cannot start: .*{reason}.*keeps its role"):
        deployer(fake, pending_grace_s=0).apply(tiny_version.version(2), "immr-search:immr-2", "champion")
    assert deployer(fake).current() == [first]


NO_KEDA = 'no matches for kind "ScaledObject" in version "keda.sh/v1alpha1"'
NO_RUNTIME = "No ServingRuntimes or ClusterServingRuntimes with the name: immr-bento"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (
            {
                "conditions": [
                    {
                        "type": "PredictorReady",
                        "status": "False",
                        "reason": "ReconcileFailed",
                        "message": NO_KEDA,
                    }
                ]
            },
            f"ReconcileFailed: {NO_KEDA}",
        ),
        (
            {"modelStatus": {"transitionStatus": "InvalidSpec", "lastFailureInfo": {"message": NO_RUNTIME}}},
            f"InvalidSpec: {NO_RUNTIME}",
        ),
    ],
)
def test_kserve_says_at_once_why_it_creates_no_pods(
    fake: FakeApi, status: dict[str, Any], reason: str
) -> None:
    fake.on_create = lambda resource, body: fake.change(KIND, "immr", "immr-1", status=status)
    with pytest.raises(
        DeployError, match=f"cannot start: pod of immr-1 is {reason}; .*immr doctor --cluster"
    ):
        deployer(fake, pending_grace_s=0).apply(tiny_version.version(1), "immr-search:immr-1", "champion")


@pytest.mark.parametrize(
    ("reason", "about", "pods"),
    [("FailedMount", "immr-2-predictor-abc", [starting()]), ("FailedCreate", "immr-2-predictor-77f", [])],
)
def test_events_explain_pods_that_do_not_run(
    fake: FakeApi, reason: str, about: str, pods: list[dict[str, Any]]
) -> None:
    for pod in pods:
        fake.put("pods", pod)
    event = {
        "reason": reason,
        "message": "it is refused",
        "type": "Warning",
        "involvedObject": {"name": about},
    }
    fake.put("events", event | {"metadata": {"name": "a", "namespace": "immr"}})
    fake.on_create = lambda resource, body: None
    with pytest.raises(DeployError, match=f"cannot start: .*{reason}: it is refused"):
        deployer(fake, pending_grace_s=0).apply(tiny_version.version(2), "immr-search:immr-2", "champion")
