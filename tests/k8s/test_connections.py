"""Which pod may connect to which: exactly the connections that the settings' URLs and the code ask for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.k8s import schemas
from tests.k8s.test_manifests import NAMESPACES, OVERLAYS, built, composed, objects_of, titled

Labels = dict[str, str]
Edges = set[tuple[str, str, int]]

PORT_OF_TRAINING = 29500  # any: torch chooses some of them
PARTS = {
    "events": "IMMR_EVENTS_URL",
    "open_events": "IMMR_EVENTS_URL",
    "registry": "IMMR_TRACKING_URL",
    "index": "IMMR_INDEX_URL",
    "features": "IMMR_FEATURES_URL",
}
CODE = {
    "gateway": ("serving/gateway", "serving/process"),
    "page": ("dashboards",),
    "version": ("serving/bento",),
}
ANY = {"events", "registry", "index", "features"}  # a step or a person may run any verb


def parts_of(pod: str) -> set[str]:
    """The parts of `wiring.py` that a process opens; `features.freshness` reads a file on the claim."""
    text = "".join(file.read_text() for folder in CODE[pod] for file in (schemas.ROOT / folder).rglob("*.py"))
    return set(re.findall(rf"parts\.({'|'.join(PARTS)})\b(?!\.freshness)", text))


def settings_of(pod: str) -> set[str]:
    if pod == "training":
        return {"IMMR_TRACKING_URL"}
    if pod == "mlflow":
        return {"MLFLOW_BACKEND_STORE_URI"}
    found = {PARTS[part] for part in (ANY if pod in ("step", "tools") else parts_of(pod))}
    return found | ({"IMMR_FEATURES_REGISTRY_URL"} if "IMMR_FEATURES_URL" in found else set())


class Cluster:
    """An overlay's policies, and the labels and ports of the pods of one namespace."""

    def __init__(self, overlay: str, objects: Iterable[dict[str, Any]], folder: Path) -> None:
        self.objects = {titled(one): one for one in objects}
        self.policies = [one["spec"] for one in self.objects.values() if one["kind"] == "NetworkPolicy"]
        self.namespace = NAMESPACES[overlay]
        self.labels: dict[str, Labels] = {}
        self.ports: dict[str, dict[str, int]] = {}
        for one in self.objects.values():
            if one["kind"] in ("Deployment", "StatefulSet"):
                template = one["spec"]["template"]
                self.labels[one["metadata"]["name"]] = template["metadata"]["labels"]
                self.ports[one["metadata"]["name"]] = ports(template["spec"])
        job, service = objects_of(overlay, folder)
        for replica in job["spec"]["pytorchReplicaSpecs"].values():
            self.labels["training"] = replica["template"]["metadata"]["labels"]
        self.labels["version"] = service["metadata"]["labels"]
        self.ports["version"] = ports(self.objects["ServingRuntime/immr-bento"]["spec"])
        self.ports["training"] = {"torch": PORT_OF_TRAINING}
        tools = yaml.safe_load((schemas.ROOT / "k8s" / "tools" / "pod.yaml").read_text())
        self.labels["tools"] = tools["metadata"]["labels"]
        self.labels["step"] = {"pipelines.kubeflow.org/v2_component": "true"}  # by Kubeflow Pipelines 2.17

    def behind(self, url: str) -> tuple[str, int] | None:
        """The pod and its port that a URL leads to; None outside the cluster."""
        parts = urlsplit(url)
        service = self.objects.get(f"Service/{parts.hostname}")
        if service is None:
            return None
        spec = service["spec"]
        (target,) = (one["targetPort"] for one in spec["ports"] if one["port"] == parts.port)
        (pod,) = (name for name, each in self.labels.items() if spec["selector"].items() <= each.items())
        return pod, self.ports[pod][target]

    def values(self, pod: str) -> Iterator[str]:
        data = dict(self.objects["ConfigMap/immr-settings"]["data"])
        if f"Deployment/{pod}" in self.objects:
            (container,) = self.objects[f"Deployment/{pod}"]["spec"]["template"]["spec"]["containers"]
            data |= {one["name"]: one["value"] for one in container["env"] if "value" in one}
        for name in settings_of(pod):
            yield data[name]

    def needed(self) -> Edges:
        found: Edges = set()
        for pod in ("gateway", "page", "version", "training", "mlflow", "step", "tools"):
            for url in self.values(pod):
                if to := self.behind(url):
                    found.add((pod, *to))
        # start, decide and rollback ask whether it is ready
        for caller in ("gateway", "page", "step", "tools"):
            found.add((caller, "version", self.ports["version"]["http1"]))
        found.add(("training", "training", PORT_OF_TRAINING))
        return found | {("qdrant", "qdrant", port) for port in self.ports["qdrant"].values()}

    def allowed(self) -> Edges:
        inside = {"kubernetes.io/metadata.name": self.namespace}
        return {
            (source, target, port)
            for source in self.labels
            for target in self.ports
            for port in self.ports[target].values()
            if self._may("Egress", self.labels[source], self.labels[target], inside, port)
            and self._may("Ingress", self.labels[target], self.labels[source], inside, port)
        }

    def may_enter(self, pod: str, namespace: Labels, port: int) -> bool:
        """Whether a pod of another namespace may connect."""
        return self._may("Ingress", self.labels[pod], {}, namespace, port)

    def _may(self, way: str, pod: Labels, other: Labels, namespace: Labels, port: int) -> bool:
        mine = [
            one for one in self.policies if way in one["policyTypes"] and selects(one["podSelector"], pod)
        ]
        rules = [rule for one in mine for rule in one.get(way.lower(), [])]
        return not mine or any(
            opens(rule, "to" if way == "Egress" else "from", other, namespace, port, self.namespace)
            for rule in rules
        )


def opens(rule: dict[str, Any], key: str, other: Labels, namespace: Labels, port: int, own: str) -> bool:
    if "ports" in rule and port not in {one["port"] for one in rule["ports"]}:
        return False
    if key not in rule:
        return True
    for peer in rule[key]:
        if "ipBlock" in peer:
            continue
        same = namespace.get("kubernetes.io/metadata.name") == own
        there = selects(peer["namespaceSelector"], namespace) if "namespaceSelector" in peer else same
        if there and selects(peer.get("podSelector", {}), other):
            return True
    return False


def selects(selector: dict[str, Any], labels: Labels) -> bool:
    assert set(selector) <= {"matchLabels", "matchExpressions"}
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        one["operator"] == "In" and labels.get(one["key"]) in one["values"]
        for one in selector.get("matchExpressions", [])
    )


def ports(spec: dict[str, Any]) -> dict[str, int]:
    return {
        one["name"]: one["containerPort"]
        for container in spec["containers"]
        for one in container.get("ports", [])
    }


@pytest.fixture
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Cluster:
    return Cluster(request.param, built(request.param), tmp_path)


@pytest.mark.parametrize("cluster", OVERLAYS, indirect=True)
def test_pods_make_the_connections_that_they_need_and_no_others(cluster: Cluster) -> None:
    allowed, needed = cluster.allowed(), cluster.needed()
    assert needed - allowed == set(), "refused"
    assert allowed - needed == set(), "not needed"


def test_what_the_code_opens() -> None:
    """So that the matrix is not empty because the code has moved."""
    assert parts_of("gateway") == {"open_events"}
    assert parts_of("page") == {"events", "registry"}
    assert parts_of("version") == {"index", "features"}


@pytest.mark.parametrize("cluster", OVERLAYS, indirect=True)
def test_only_labelled_namespaces_come_in(cluster: Cluster) -> None:
    shoppers, figures = ({"immr.dev/access": name} for name in ("shoppers", "figures"))
    for pod, its in cluster.ports.items():
        for name, port in its.items():
            assert not cluster.may_enter(pod, {"kubernetes.io/metadata.name": "default"}, port), (pod, name)
            assert cluster.may_enter(pod, shoppers, port) == ((pod, name) == ("gateway", "http")), (pod, name)
            scraped = (pod, name) in {
                ("gateway", "metrics"),
                ("version", "metrics"),
                ("page", "page"),
                ("qdrant", "http"),
            }
            assert cluster.may_enter(pod, figures, port) == scraped, (pod, name)


def test_only_pods_that_use_events_reach_kafka(tmp_path: Path) -> None:
    """Strimzi 1.2 opens a listener to all namespaces unless it names its peers.

    It labels its pods `app.kubernetes.io/part-of: strimzi-immr`, so our policies do not isolate them.
    """
    made = Cluster("kind", composed("kafka"), tmp_path)
    url = urlsplit(made.objects["ConfigMap/immr-settings"]["data"]["IMMR_EVENTS_URL"])
    (listener,) = made.objects["Kafka/immr"]["spec"]["kafka"]["listeners"]
    assert (url.hostname, url.port) == ("immr-kafka-bootstrap", listener["port"])
    broker = {"strimzi.io/cluster": "immr", "app.kubernetes.io/part-of": "strimzi-immr"}
    made.labels["kafka"], made.ports["kafka"] = broker, {"plain": listener["port"]}
    rule = {"from": listener["networkPolicyPeers"], "ports": [{"port": listener["port"]}]}
    by_strimzi = {"podSelector": {"matchLabels": broker}, "policyTypes": ["Ingress"], "ingress": [rule]}
    made.policies.append(by_strimzi)
    callers = {source for source, target, _ in made.allowed() if target == "kafka"}
    assert callers == {pod for pod in made.labels if pod in CODE or pod in ("step", "tools")} - {"version"}
    assert not made.may_enter("kafka", {"kubernetes.io/metadata.name": "default"}, listener["port"])


def test_spark_executors_reach_a_step_that_is_their_driver(tmp_path: Path) -> None:
    made = Cluster("kind", composed("spark-steps"), tmp_path)
    made.labels["executor"] = {"app.kubernetes.io/name": "immr-spark", "app.kubernetes.io/part-of": "immr"}
    made.ports |= {"executor": {"any": 40000}, "step": {"driver": 7078, "blocks": 7079}}
    allowed = made.allowed()
    assert {("executor", "step", 7078), ("executor", "step", 7079), ("step", "executor", 40000)} <= allowed
    assert ("executor", "executor", 40000) in allowed
    assert not {target for source, target, _ in allowed if source == "executor"} - {"step", "executor"}
