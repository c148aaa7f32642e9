"""What users' clusters add: a service mesh, a registry with a password, S3, photos by URL, a DNS cache on nodes."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest
import yaml

from immr.cluster.objects import OUTSIDE_MESH
from tests.k8s import schemas
from tests.k8s.test_manifests import OVERLAYS, composed, named, objects_of, pods, titled

SEARCH = {"matchLabels": {"app.kubernetes.io/name": "immr-search"}}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_are_outside_the_mesh(overlay: str, tmp_path: Path) -> None:
    """Steps and training pods have none, so a mesh's policy would refuse their calls to pods that have one."""
    labels = {
        title: template["metadata"]["labels"]
        for title, template in pods(overlay)
        if not title.startswith("ServingRuntime")  # whose pods get the InferenceService's labels
    }
    job, service = objects_of(overlay, tmp_path)
    labels["a version"] = service["metadata"]["labels"]
    for name, replica in job["spec"]["pytorchReplicaSpecs"].items():
        labels[name] = replica["template"]["metadata"]["labels"]
    tools = yaml.safe_load((schemas.ROOT / "k8s" / "tools" / "pod.yaml").read_text())
    labels["tools"] = tools["metadata"]["labels"]
    assert [title for title, each in labels.items() if not OUTSIDE_MESH.items() <= each.items()] == []


def test_pods_of_components_are_outside_the_mesh_too() -> None:
    made = {titled(one): one for one in composed("new-data", "redis", "spark")}
    for title in ("Deployment/new-data", "StatefulSet/redis"):
        assert OUTSIDE_MESH.items() <= made[title]["spec"]["template"]["metadata"]["labels"].items(), title
    for role in ("driver", "executor"):
        assert OUTSIDE_MESH.items() <= made["SparkApplication/immr-govern"]["spec"][role]["labels"].items()


def test_the_tools_pod_starts_where_commands_may_write_their_reports() -> None:
    """The image's folder /app is read-only; `python -m pipelines` still finds its package there."""
    pod = yaml.safe_load((schemas.ROOT / "k8s" / "tools" / "pod.yaml").read_text())["spec"]
    (container,) = pod["containers"]
    mounts = {one["mountPath"]: one for one in container["volumeMounts"]}
    assert not mounts[container["workingDir"]].get("readOnly")
    variables = {one["name"]: one.get("value") for one in container["env"]}
    image = (schemas.ROOT / "k8s" / "images" / "pipeline.Dockerfile").read_text()
    assert f"COPY pipelines {variables['PYTHONPATH']}/pipelines" in image


def test_kubeflow_recognizes_the_namespace_as_a_profiles() -> None:
    """Its network policies admit callers of Kubeflow Pipelines and of the object store by this label."""
    labels = named("production", "Namespace", "immr")["metadata"]["labels"]
    assert labels["app.kubernetes.io/part-of"] == "kubeflow-profile"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_gives_a_volume_its_claim_stays_as_it_is(overlay: str) -> None:
    """A StatefulSet's claim templates cannot be changed, so labels that may change must not be in them."""
    for title, _ in pods(overlay):
        kind, name = title.split("/")
        if kind == "StatefulSet":
            for claim in named(overlay, kind, name)["spec"]["volumeClaimTemplates"]:
                own = {label.split("/")[0] for label in claim["metadata"]["labels"]}
                assert own == {"app.kubernetes.io"}, title


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_slow_answer_does_not_restart_a_pod(overlay: str) -> None:
    """Kubernetes' default is one second, which an overloaded pod misses just when a restart would hurt most."""
    for title, template in pods(overlay):
        for container in template["spec"]["containers"]:
            assert "startupProbe" in container or title == "StatefulSet/redis", title
            for probe in ("startupProbe", "livenessProbe"):
                assert container.get(probe, container["livenessProbe"]).get("timeoutSeconds", 1) >= 5, title


def egress_of_search(made: tuple[dict[str, Any], ...], name: str) -> dict[str, Any]:
    (policy,) = (one["spec"] for one in made if titled(one) == f"NetworkPolicy/{name}")
    assert policy["podSelector"] == SEARCH and policy["policyTypes"] == ["Egress"]
    (rule,) = policy["egress"]
    found: dict[str, Any] = rule
    return found


def test_a_versions_pod_reaches_the_store_that_holds_its_bento() -> None:
    rule = egress_of_search(composed("bentos-s3"), "search-to-s3")
    assert 443 in {port["port"] for port in rule["ports"]} and "to" not in rule


def test_training_reaches_the_store_that_holds_its_pictures() -> None:
    policies = {titled(one): one.get("spec", {}) for one in composed("pixels-s3")}
    policy = policies["NetworkPolicy/training-to-s3"]
    assert policy["podSelector"] == policies["NetworkPolicy/training"]["podSelector"]
    (rule,) = policy["egress"]
    assert 443 in {port["port"] for port in rule["ports"]} and "to" not in rule


def test_photos_are_fetched_from_public_addresses_only() -> None:
    made = composed("photo-urls")
    (settings,) = (one["data"] for one in made if titled(one) == "ConfigMap/immr-settings")
    assert settings["IMMR_IMAGE_URLS"] == "1"
    rule = egress_of_search(made, "search-to-photos")
    (peer,) = rule["to"]
    closed = [ipaddress.ip_network(each) for each in peer["ipBlock"]["except"]]
    for inside in ("10.96.0.1", "172.20.1.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "127.0.0.1"):
        assert any(ipaddress.ip_address(inside) in each for each in closed), inside
    assert not any(ipaddress.ip_address("93.184.215.14") in each for each in closed)


def test_every_account_pulls_from_a_registry_with_a_password() -> None:
    accounts = [one for one in composed("private-registry") if one["kind"] == "ServiceAccount"]
    assert {tuple(each["name"] for each in one["imagePullSecrets"]) for one in accounts} == {
        ("immr-registry",)
    }
    assert len(accounts) == len([one for one in composed("photo-urls") if one["kind"] == "ServiceAccount"])


def test_names_resolve_with_a_dns_cache_on_the_node() -> None:
    (rule,) = named("kind", "NetworkPolicy", "nothing-but-names")["spec"]["egress"]
    assert {"ipBlock": {"cidr": "169.254.20.10/32"}} in rule["to"]
    assert {port["port"] for port in rule["ports"]} == {53}
