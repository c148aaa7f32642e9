"""What `kubectl apply -k` sends: built by kubectl, checked against schemas and our conventions."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml

from dashboards.rules import for_namespace
from immr.deploy.inference_service import MODEL_FORMAT, ServingShape, inference_service
from immr.events.delivery import STOP_TIMEOUT_S
from immr.governance.engines import spark_on_kubernetes
from immr.launch.kubeflow.job_shape import JobShape
from immr.launch.kubeflow.pytorchjob import PyTorchJobs
from immr.launch.launcher import TrainingJob
from immr.settings import Settings
from pipelines import cluster
from serving.gateway.app import FINISH_S
from serving.process.draining import DRAIN_S
from tests.k8s import schemas
from tests.support import tiny_version

NAMESPACES = {"kind": "kubeflow", "production": "immr"}
OVERLAYS = tuple(NAMESPACES)
BUILT_IN = (
    "v1",
    "apps/v1",
    "autoscaling/v2",
    "batch/v1",
    "policy/v1",
    "networking.k8s.io/v1",
    "rbac.authorization.k8s.io/v1",
)
RUNS_AS = {"kind": "pipeline-runner", "production": "default-editor"}  # Kubeflow's default account
KUBERNETES = "1.33"
KIND_LIMIT_GIB = 8
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


@functools.cache
def built(overlay: str) -> tuple[dict[str, Any], ...]:
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl: the overlays cannot be built")
    folder = schemas.ROOT / "k8s" / "overlays" / overlay
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def titled(one: dict[str, Any]) -> str:
    return f"{one['kind']}/{one['metadata']['name']}"


def named(overlay: str, kind: str, name: str) -> dict[str, Any]:
    (found,) = (one for one in built(overlay) if titled(one) == f"{kind}/{name}")
    return found


def pods(overlay: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for one in built(overlay):
        if one["kind"] in ("Deployment", "StatefulSet"):
            yield titled(one), one["spec"]["template"]
        if one["kind"] == "ServingRuntime":
            yield titled(one), {"spec": one["spec"]}


def gib(amount: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(Ki|Mi|Gi)", amount).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit] / 2**30


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_custom_resources_match_their_definitions(overlay: str) -> None:
    schemas.needed()
    custom = [one for one in built(overlay) if one["apiVersion"] not in BUILT_IN]
    assert {one["kind"] for one in custom} >= {"HTTPRoute", "ServingRuntime", "ServiceMonitor", "PodMonitor"}
    assert {titled(one): schemas.problems(one) for one in custom} == {titled(one): [] for one in custom}


def refused(one: dict[str, Any]) -> str:
    """Why Kubernetes' own schema, with unknown fields rejected, refuses an object; empty if it does not."""
    kubernetes = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    try:
        assert kubernetes.validate(one, KUBERNETES, strict=True) == KUBERNETES
    except kubernetes.ValidationError as error:
        return str(error.message)
    return ""


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_built_in_kinds_match_the_kubernetes_schemas(overlay: str) -> None:
    built_in = [one for one in built(overlay) if one["apiVersion"] in BUILT_IN]
    assert {one["kind"] for one in built_in} >= {
        "Deployment",
        "StatefulSet",
        "Service",
        "NetworkPolicy",
        "Role",
    }
    assert {titled(one): refused(one) for one in built_in if refused(one)} == {}


def test_the_check_rejects_what_kubernetes_rejects() -> None:
    service = named("kind", "Service", "gateway")
    assert "prot" in refused(service | {"spec": {"ports": [{"port": 80, "prot": 80}]}})
    assert "80000" in refused(service | {"spec": {"ports": "80000"}})


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_has_labels_and_a_namespace(overlay: str) -> None:
    for one in built(overlay):
        labels = one["metadata"].get("labels", {})
        for name in ("name", "component", "part-of", "managed-by"):
            assert f"app.kubernetes.io/{name}" in labels, titled(one)
        if one["kind"] != "Namespace":
            assert one["metadata"]["namespace"] == NAMESPACES[overlay], titled(one)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_objects_are_unique_and_namespaced(overlay: str) -> None:
    titles = [titled(one) for one in built(overlay)]
    assert len(titles) == len(set(titles))
    assert not [one for one in titles if one.startswith(("Cluster", "PersistentVolume/", "CustomResource"))]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_run_with_the_default_account_has_the_permissions(overlay: str) -> None:
    """A run started from the UI with the default values uses Kubeflow's account."""
    subjects = named(overlay, "RoleBinding", "immr-pipeline")["subjects"]
    assert {(one["name"], one["namespace"]) for one in subjects} == {
        ("immr-pipeline", NAMESPACES[overlay]),
        ("immr-tools", NAMESPACES[overlay]),
        (RUNS_AS[overlay], NAMESPACES[overlay]),
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_container_follows_the_restricted_standard(overlay: str) -> None:
    for title, template in pods(overlay):
        assert_restricted(title, template)


def assert_restricted(title: str, template: dict[str, Any]) -> None:
    """Every container: Kubernetes' restricted standard, and a root file system that is read only."""
    spec = template["spec"]
    for container in spec["containers"] + spec.get("initContainers", []):
        where = f"{title}/{container['name']}"
        security = spec.get("securityContext", {}) | container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False, where
        assert security["readOnlyRootFilesystem"] is True, where
        assert security["capabilities"] == {"drop": ["ALL"]}, where
        assert security["runAsNonRoot"] is True, where
        assert isinstance(security["runAsUser"], int) and security["runAsUser"] > 0, where
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, where
    assert not any("hostPath" in volume for volume in spec.get("volumes", [])), title


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_container_has_probes_and_resources_and_a_tag(overlay: str) -> None:
    for title, template in pods(overlay):
        for container in template["spec"]["containers"]:
            where = f"{title}/{container['name']}"
            assert {"livenessProbe", "readinessProbe"} <= set(container), where
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), where
            assert "memory" in container["resources"]["limits"], where
            assert re.search(r":v?\d", container["image"]), where


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_reference_resolves(overlay: str) -> None:
    there = {titled(one) for one in built(overlay)}
    services = {one["metadata"]["name"] for one in built(overlay) if one["kind"] == "Service"}
    for title, template in pods(overlay):
        spec = template["spec"]
        mounts = {mount["name"] for one in spec["containers"] for mount in one.get("volumeMounts", [])}
        assert mounts <= {volume["name"] for volume in spec.get("volumes", [])} | claimed(overlay, title), (
            title
        )
        for volume in spec.get("volumes", []):
            if claim := volume.get("persistentVolumeClaim"):
                assert f"PersistentVolumeClaim/{claim['claimName']}" in there, title
        if account := spec.get("serviceAccountName"):
            assert f"ServiceAccount/{account}" in there, title
            assert spec["automountServiceAccountToken"] is False, title
        for container in spec["containers"]:
            for source in container.get("envFrom", []):
                assert f"ConfigMap/{source['configMapRef']['name']}" in there, title
    settings = named(overlay, "ConfigMap", "immr-settings")["data"]
    for variable in ("IMMR_TRACKING_URL", "IMMR_INDEX_URL"):
        assert urlsplit(settings[variable]).hostname in services


def claimed(overlay: str, title: str) -> set[str]:
    """Names of the volumes that each pod of a StatefulSet gets for itself."""
    (found,) = (one for one in built(overlay) if titled(one) == title)
    return {one["metadata"]["name"] for one in found["spec"].get("volumeClaimTemplates", [])}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_selector_matches_a_pod(overlay: str) -> None:
    templates = [template.get("metadata", {}).get("labels", {}) for _, template in pods(overlay)]
    for one in built(overlay):
        if one["kind"] == "Service":
            wanted = one["spec"]["selector"]
            assert any(wanted.items() <= labels.items() for labels in templates), titled(one)
        if one["kind"] in ("Deployment", "StatefulSet"):
            wanted = one["spec"]["selector"]["matchLabels"]
            assert wanted.items() <= one["spec"]["template"]["metadata"]["labels"].items(), titled(one)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_rules_and_boards_have_one_source(overlay: str) -> None:
    dashboards = schemas.ROOT / "dashboards"
    source = yaml.safe_load((dashboards / "prometheus" / "rules.yaml").read_text())
    restricted = for_namespace(source, NAMESPACES[overlay])
    written = yaml.safe_load((schemas.ROOT / f"k8s/overlays/{overlay}/rules.yaml").read_text())
    assert written["spec"] == restricted, "run `make rules`"
    # kustomize rewraps long expressions, which Prometheus ignores
    assert one_line(named(overlay, "PrometheusRule", "immr")["spec"]) == one_line(restricted)
    board = named(overlay, "ConfigMap", "immr-dashboards")
    assert board["data"] == {"immr.json": (dashboards / "grafana" / "immr.json").read_text()}
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_prometheus_can_reach_what_it_scrapes(overlay: str) -> None:
    allowed = {pod: ports_for_figures(overlay, pod) for pod in ("gateway", "page", "search", "qdrant")}
    assert allowed == {"gateway": {9090}, "page": {8081}, "search": {9090}, "qdrant": {6333}}
    for name in ("gateway", "page", "qdrant"):
        monitor = named(overlay, "ServiceMonitor", name)["spec"]
        labels = named(overlay, "Service", name)["metadata"]["labels"]
        assert monitor["selector"]["matchLabels"].items() <= labels.items()
        for endpoint in monitor["endpoints"]:
            assert port_behind(overlay, name, endpoint["port"]) in allowed[name]
    gateway = named(overlay, "StatefulSet", "gateway")["spec"]["template"]["spec"]["containers"][0]
    runtime = named(overlay, "ServingRuntime", "immr-bento")["spec"]["containers"][0]
    for container in (gateway, runtime):
        assert {one["name"]: one["containerPort"] for one in container["ports"]}["metrics"] == 9090
        assert {"name": "IMMR_METRICS_PORT", "value": "9090"} in container["env"]


def ports_for_figures(overlay: str, policy: str) -> set[int]:
    """The pods' ports that a NetworkPolicy opens to namespaces labelled `figures`."""
    prometheus = [{"namespaceSelector": {"matchLabels": {"immr.dev/access": "figures"}}}]
    rules = named(overlay, "NetworkPolicy", policy)["spec"]["ingress"]
    return {port["port"] for rule in rules if rule["from"] == prometheus for port in rule["ports"]}


def port_behind(overlay: str, service: str, port: str) -> int:
    """The container's port that a named port of a Service points to."""
    spec = named(overlay, "Service", service)["spec"]
    (target,) = (one["targetPort"] for one in spec["ports"] if one["name"] == port)
    (found,) = (
        one["containerPort"]
        for _, template in pods(overlay)
        if spec["selector"].items() <= template.get("metadata", {}).get("labels", {}).items()
        for container in template["spec"]["containers"]
        for one in container["ports"]
        if one["name"] == target
    )
    return int(found)


def test_every_alert_has_a_runbook() -> None:
    page = (schemas.ROOT / "docs" / "operations.md").read_text()
    rules = yaml.safe_load((schemas.ROOT / "dashboards/prometheus/rules.yaml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    assert alerts == set(re.findall(r"^### (\w+)$", page, re.M))


def mounted(pod: dict[str, Any]) -> dict[str, str]:
    """Names of volumes by mount path, in a pod with one container."""
    (container,) = pod["containers"]
    return {one["mountPath"]: one["name"] for one in container["volumeMounts"]}


def volumes_of(pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in pod["volumes"]}


def settings_of(overlay: str) -> dict[str, str]:
    data: dict[str, str] = named(overlay, "ConfigMap", "immr-settings")["data"]
    return data


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_links_fit_the_documented_port_forwards(overlay: str) -> None:
    documented = (schemas.ROOT / "docs" / "kubernetes.md").read_text()
    for link, service in {"API": "gateway", "PAGE": "page", "TRACKING": "mlflow"}.items():
        port = urlsplit(settings_of(overlay)[f"IMMR_{link}_LINK"]).port
        assert f"port-forward svc/{service} {port}" in documented


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_that_reads_or_writes_events_reaches_the_same_log(overlay: str) -> None:
    url = urlsplit(settings_of(overlay)["IMMR_EVENTS_URL"])
    assert (url.scheme, url.password) == ("postgresql", None), "a ConfigMap holds no password"
    (port,) = named(overlay, "Service", str(url.hostname))["spec"]["ports"]
    assert port["port"] == url.port
    server = named(overlay, "StatefulSet", "postgres")["spec"]["template"]
    secret = {"secretKeyRef": {"name": cluster.DATABASE_SECRET, "key": "password"}}
    assert {"name": "POSTGRES_PASSWORD", "valueFrom": secret} in server["spec"]["containers"][0]["env"]
    assert {"name": "POSTGRES_USER", "value": url.username} in server["spec"]["containers"][0]["env"]
    rules = named(overlay, "NetworkPolicy", "postgres")["spec"]["ingress"]
    callers = [peer["podSelector"] for rule in rules for peer in rule["from"]]
    for title in ("StatefulSet/gateway", "Deployment/page", "Deployment/mlflow"):
        kind, name = title.split("/")
        template = named(overlay, kind, name)["spec"]["template"]
        (container,) = template["spec"]["containers"]
        assert {"name": "PGPASSWORD", "valueFrom": secret} in container["env"], title
        assert "IMMR_EVENTS_URL" not in {one["name"] for one in container["env"]}, "it would be another log"
        labels = template["metadata"]["labels"]
        assert any(selects(each, labels) for each in callers), title
        assert selects(named(overlay, "NetworkPolicy", "to-postgres")["spec"]["podSelector"], labels), title
    assert any(selects(each, {"pipelines.kubeflow.org/v2_component": "true"}) for each in callers)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_command_in_the_pages_pod_delivers_its_alerts(overlay: str) -> None:
    """The tools pod and the steps had the webhook, the page had not: a rollback's alert waited there for a day."""
    (page,) = named(overlay, "Deployment", "page")["spec"]["template"]["spec"]["containers"]
    tools = yaml.safe_load((schemas.ROOT / "k8s" / "tools" / "pod.yaml").read_text())
    secret = {"name": cluster.ALERTS_SECRET, "key": "url", "optional": True}
    variable = {"name": "IMMR_ALERT_URL", "valueFrom": {"secretKeyRef": secret}}
    for container in (page, *tools["spec"]["containers"]):
        assert variable in container["env"]
    assert {"ports": [{"protocol": "TCP", "port": 443}]} in named(overlay, "NetworkPolicy", "page")["spec"][
        "egress"
    ]


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        one["operator"] == "In" and labels.get(one["key"]) in one["values"]
        for one in selector.get("matchExpressions", [])
    )


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_gateway_can_restart_while_another_one_answers(overlay: str) -> None:
    """A StatefulSet replaces one pod at a time, and the next one once the last has been ready for a while."""
    gateway = named(overlay, "StatefulSet", "gateway")["spec"]
    if overlay == "production":
        scaler = named(overlay, "ScaledObject", "gateway")["spec"]
        scaled = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "gateway"}
        assert "replicas" not in gateway and scaler["scaleTargetRef"] == scaled
        replicas = scaler["minReplicaCount"]
    else:
        replicas = gateway["replicas"]
    assert replicas >= 2
    assert gateway.get("updateStrategy", {"type": "RollingUpdate"}) == {"type": "RollingUpdate"}
    assert gateway["minReadySeconds"] >= 5
    (container,) = gateway["template"]["spec"]["containers"]
    period_s = container["readinessProbe"]["periodSeconds"]
    # without an endpoint for as long as proxies need to notice, before the server stops
    assert container["lifecycle"]["preStop"]["sleep"]["seconds"] >= period_s
    assert named(overlay, "PodDisruptionBudget", "gateway")["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_events_wait_on_a_disk_that_outlives_the_gateways_pod(overlay: str) -> None:
    waiting = Settings(home=Path(settings_of(overlay)["IMMR_HOME"])).waiting_events_dir
    pod = named(overlay, "StatefulSet", "gateway")["spec"]["template"]["spec"]
    mounts = mounted(pod)
    on = max((path for path in mounts if waiting.is_relative_to(path)), key=len)
    # each of many pods has its own
    assert mounts[on] in claimed(overlay, "StatefulSet/gateway") and mounts[on] not in volumes_of(pod)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_crash_of_the_page_leaves_the_search_alone(overlay: str) -> None:
    gateway = named(overlay, "StatefulSet", "gateway")["spec"]["template"]["spec"]
    assert [one["name"] for one in gateway["containers"]] == ["gateway"]
    assert [one["name"] for one in named(overlay, "Service", "gateway")["spec"]["ports"]] == [
        "http",
        "metrics",
    ]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_process_that_hangs_is_restarted(overlay: str) -> None:
    """The kernel accepts connections for it, so a probe has to get an answer."""
    pods = [
        one["spec"]["template"]["spec"]
        for one in built(overlay)
        if one["kind"] in ("Deployment", "StatefulSet")
    ]
    containers = {one["name"]: one for pod in pods for one in pod["containers"]}
    assert {"gateway", "page"} <= containers.keys()
    for name, container in containers.items():
        probes = [container.get(f"{kind}Probe", {}) for kind in ("startup", "liveness", "readiness")]
        assert not any("tcpSocket" in probe for probe in probes), name
        assert probes[1], name


def test_with_kafka_events_are_in_its_topic() -> None:
    made = {titled(one): one for one in composed("kafka")}
    url = urlsplit(made["ConfigMap/immr-settings"]["data"]["IMMR_EVENTS_URL"])
    assert (url.scheme, url.path) == ("kafka", f"/{made['KafkaTopic/immr-events']['metadata']['name']}")
    page = made["Deployment/page"]["spec"]["template"]["spec"]
    # a copy of the topic, which is rebuilt
    assert volumes_of(page)[mounted(page)["/immr/events"]]["emptyDir"] == {}


def test_a_users_own_postgresql_replaces_ours() -> None:
    made = {titled(one): one for one in composed("own-postgres")}
    assert not [title for title in made if title.endswith(("/postgres", "/immr-postgres"))]
    (rule,) = made["NetworkPolicy/to-postgres"]["spec"]["egress"]
    assert rule == {"ports": [{"protocol": "TCP", "port": 5432}]}
    with_redis = {titled(one): one for one in composed("redis", "own-postgres")}
    assert with_redis["NetworkPolicy/search-to-postgres"]["spec"]["egress"] == [rule]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_mlflow_starts_no_job_runner_and_has_room(overlay: str) -> None:
    """With the job runner an idle MLflow 3.17 takes 1,524 MiB, without it 400."""
    (container,) = named(overlay, "Deployment", "mlflow")["spec"]["template"]["spec"]["containers"]
    assert {"name": "MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "value": "false"} in container["env"]
    assert gib(container["resources"]["limits"]["memory"]) * 1024 >= 1.5 * 400


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_stopping_gateway_has_time_to_deliver_its_events(overlay: str) -> None:
    pod = named(overlay, "StatefulSet", "gateway")["spec"]["template"]["spec"]
    (gateway,) = (one for one in pod["containers"] if one["name"] == "gateway")
    takes_s = gateway["lifecycle"]["preStop"]["sleep"]["seconds"] + DRAIN_S + FINISH_S + STOP_TIMEOUT_S
    assert pod["terminationGracePeriodSeconds"] > takes_s


def one_line(value: Any) -> Any:
    """The same object, with whitespace in strings collapsed to single spaces."""
    if isinstance(value, dict):
        return {name: one_line(part) for name, part in value.items()}
    if isinstance(value, list):
        return [one_line(part) for part in value]
    return " ".join(value.split()) if isinstance(value, str) else value


def test_replicas_of_mlflow_create_the_tables_one_at_a_time() -> None:
    mlflow = named("production", "Deployment", "mlflow")["spec"]
    (container,) = mlflow["template"]["spec"]["containers"]
    assert mlflow["replicas"] > 1 and container["args"][:2] == ["-m", "immr.registry.server"]


def test_components_build_too() -> None:
    """Includes components that only users' own overlays use."""
    schemas.needed()
    made = composed(
        "redis",
        "kafka",
        "spark",
        "mlflow-s3",
        "bentos-s3",
        "pixels-s3",
        "new-data",
        "photo-urls",
        "private-registry",
    )
    kinds = {one["kind"] for one in made}
    assert kinds >= {"Kafka", "KafkaNodePool", "KafkaTopic", "SparkApplication", "StatefulSet"}
    for one in made:
        found = refused(one) if one["apiVersion"] in BUILT_IN else schemas.problems(one)
        assert not found, titled(one)
        if one["kind"] in ("StatefulSet", "Deployment"):
            assert_restricted(titled(one), one["spec"]["template"])
            for container in one["spec"]["template"]["spec"]["containers"]:
                assert {"cpu", "memory"} <= set(container["resources"]["requests"]), titled(one)
                assert "memory" in container["resources"]["limits"], titled(one)


def test_the_watcher_of_new_data_may_only_call_kubeflow_pipelines() -> None:
    made = {titled(one): one for one in composed("new-data")}
    pod = made["Deployment/new-data"]["spec"]["template"]
    policy = made["NetworkPolicy/new-data"]["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    (egress,) = policy["egress"]
    (container,) = pod["spec"]["containers"]
    settings = {one["name"]: one["value"] for one in container["env"]}
    assert [port["port"] for port in egress["ports"]] == [urlsplit(settings["KFP_ENDPOINT"]).port]
    token = volumes_of(pod["spec"])[mounted(pod["spec"])["/var/run/kubeflow"]]["projected"]["sources"][0]
    assert token["serviceAccountToken"]["audience"] == "pipelines.kubeflow.org"
    assert settings["KF_PIPELINES_SA_TOKEN_PATH"] == "/var/run/kubeflow/token"


@functools.cache
def composed(*components: str) -> tuple[dict[str, Any], ...]:
    """The kind overlay with components on top."""
    parts = "".join(f"- ../../components/{one}\n" for one in components)
    with tempfile.TemporaryDirectory(prefix=".test-", dir=schemas.ROOT / "k8s" / "overlays") as folder:
        text = f"resources:\n- ../kind\ncomponents:\n{parts}namespace: kubeflow\n"
        (Path(folder) / "kustomization.yaml").write_text(text)
        done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def test_with_redis_features_are_read_there() -> None:
    made = {titled(one): one for one in composed("redis")}
    url = urlsplit(made["ConfigMap/immr-settings"]["data"]["IMMR_FEATURES_URL"])
    (port,) = made[f"Service/{url.hostname}"]["spec"]["ports"]
    assert (url.scheme, url.port) == ("rediss", port["port"])


@pytest.mark.parametrize("role", ["driver", "executor"])
def test_spark_pods_follow_our_conventions(role: str) -> None:
    made = {titled(one): one for one in composed("spark")}
    spec = made["SparkApplication/immr-govern"]["spec"]
    pod = spec[role]
    template = {
        "spec": {
            "containers": [{"name": role, "securityContext": pod["securityContext"]}],
            "securityContext": pod["podSecurityContext"],
            "volumes": spec["volumes"],
        }
    }
    assert_restricted("SparkApplication/immr-govern", template)
    default = made["NetworkPolicy/nothing-but-names"]["spec"]["podSelector"]["matchLabels"]
    opened = made["NetworkPolicy/spark"]["spec"]["podSelector"]["matchLabels"]
    assert (default | opened).items() <= pod["labels"].items()
    assert f"ServiceAccount/{pod['serviceAccount']}" in made
    for volume in spec["volumes"]:
        if claim := volume.get("persistentVolumeClaim"):
            assert f"PersistentVolumeClaim/{claim['claimName']}" in made
    assert {one["name"] for one in pod["volumeMounts"]} == {one["name"] for one in spec["volumes"]}


def test_only_the_spark_driver_may_create_pods() -> None:
    made = {titled(one): one for one in composed("spark")}
    spec = made["SparkApplication/immr-govern"]["spec"]
    (subject,) = made["RoleBinding/immr-spark"]["subjects"]
    assert subject["name"] == spec["driver"]["serviceAccount"] != spec["executor"]["serviceAccount"]
    assert made[f"ServiceAccount/{subject['name']}"]["automountServiceAccountToken"] is True
    assert (
        made[f"ServiceAccount/{spec['executor']['serviceAccount']}"]["automountServiceAccountToken"] is False
    )
    (url,) = (one["value"] for one in spec["driver"]["env"] if one["name"] == "IMMR_ENGINE_URL")
    mounted = {one["mountPath"] for part in ("driver", "executor") for one in spec[part]["volumeMounts"]}
    assert dict(parse_qsl(urlsplit(url).query))["scratch"] in mounted


def test_a_step_may_be_the_driver_of_spark() -> None:
    made = {titled(one): one for one in composed("spark-steps")}
    assert not [titled(one) for one in made.values() if one["apiVersion"] in BUILT_IN and refused(one)]
    url = urlsplit(made["ConfigMap/immr-settings"]["data"]["IMMR_ENGINE_URL"])
    assert (url.scheme, url.netloc) == ("k8s", ""), "each shop has executors in its own namespace"
    assert dict(parse_qsl(url.query))["scratch"] == cluster.HOME
    binding = made["RoleBinding/immr-spark-steps"]
    assert made[f"Role/{binding['roleRef']['name']}"]["rules"][0]["resources"] == ["pods"]
    assert [one["name"] for one in binding["subjects"]] == ["immr-pipeline"]
    assert f"ServiceAccount/{spark_on_kubernetes.ACCOUNT}" in made
    (rule,) = made["NetworkPolicy/spark-executors-to-steps"]["spec"]["egress"]
    assert {one["port"] for one in rule["ports"]} == {
        spark_on_kubernetes.DRIVER_PORT,
        spark_on_kubernetes.BLOCK_MANAGER_PORT,
    }


def test_the_repository_holds_no_secret() -> None:
    for overlay in OVERLAYS:
        assert not [titled(one) for one in built(overlay) if one["kind"] == "Secret"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_is_isolated_by_default(overlay: str) -> None:
    default = named(overlay, "NetworkPolicy", "nothing-but-names")["spec"]
    assert default["policyTypes"] == ["Ingress", "Egress"] and "ingress" not in default
    for title, template in pods(overlay):
        if not title.startswith("ServingRuntime"):  # whose pods get the InferenceService's labels
            labels = template["metadata"]["labels"]
            assert default["podSelector"]["matchLabels"].items() <= labels.items(), title


def test_the_production_namespace_enforces_the_restricted_standard() -> None:
    labels = named("production", "Namespace", "immr")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_tools_pod_equals_a_step() -> None:
    pod = yaml.safe_load((schemas.ROOT / "k8s" / "tools" / "pod.yaml").read_text())
    assert refused(pod) == ""
    assert_restricted("tools", pod)
    (container,) = pod["spec"]["containers"]
    assert container["image"] == JobShape().image
    mounted = {one["mountPath"] for one in container["volumeMounts"]}
    secrets = {cluster.REDIS_SECRET_PATH, cluster.REGISTRY_SECRET_PATH}
    assert {cluster.HOME, f"{cluster.HOME}/events", "/tmp"} | secrets == mounted
    assert container["envFrom"] == [{"configMapRef": {"name": cluster.SETTINGS}}]
    assert named("kind", "ServiceAccount", pod["spec"]["serviceAccountName"])
    for asked in ("mlflow", "qdrant", "search"):  # `immr experiment rollback` asks a version itself
        policy = named("kind", "NetworkPolicy", asked)["spec"]
        callers = [one["podSelector"]["matchLabels"] for rule in policy["ingress"] for one in rule["from"]
                   if "podSelector" in one]  # fmt: skip
        assert any(caller.items() <= pod["metadata"]["labels"].items() for caller in callers), asked


def objects_of(overlay: str, tmp_path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The objects that the code creates with an overlay's settings."""
    settings = named(overlay, "ConfigMap", "immr-settings")["data"]
    job_file = tmp_path / "job.json"
    job_file.write_text("{}")
    shapes = [dict(parse_qsl(urlsplit(settings[f"IMMR_{one}_URL"]).query)) for one in ("LAUNCH", "DEPLOY")]
    shape = JobShape.from_query(shapes[0])
    job = TrainingJob("immr-abc", job_file, shape.processes_per_pod)
    version = tiny_version.version(3)
    serving = ServingShape.from_query(shapes[1])
    return (
        PyTorchJobs().body(job, NAMESPACES[overlay], shape, tmp_path, {}),
        inference_service(version, "immr-search:immr-3", NAMESPACES[overlay], serving),
    )


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_objects_created_by_code_match_the_manifests(overlay: str, tmp_path: Path) -> None:
    job, service = objects_of(overlay, tmp_path)
    there = {titled(one) for one in built(overlay)}
    pod = job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]
    assert f"ServiceAccount/{pod['serviceAccountName']}" in there
    assert f"PersistentVolumeClaim/{pod['volumes'][0]['persistentVolumeClaim']['claimName']}" in there
    predictor = service["spec"]["predictor"]
    assert f"ServingRuntime/{predictor['model']['runtime']}" in there
    assert f"ServiceAccount/{predictor['serviceAccountName']}" in there
    runtime = named(overlay, "ServingRuntime", predictor["model"]["runtime"])
    assert runtime["spec"]["supportedModelFormats"][0]["name"] == MODEL_FORMAT
    claim = predictor["model"]["storageUri"].removeprefix("pvc://").split("/")[0]
    assert f"PersistentVolumeClaim/{claim}" in there
    monitored = named(overlay, "PodMonitor", "search")["spec"]["selector"]["matchLabels"]
    assert monitored.items() <= service["metadata"]["labels"].items()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_created_by_operators_follow_the_restricted_standard(overlay: str, tmp_path: Path) -> None:
    job, service = objects_of(overlay, tmp_path)
    made = [one["template"] for one in job["spec"]["pytorchReplicaSpecs"].values()]
    runtime = named(overlay, "ServingRuntime", "immr-bento")["spec"]
    made.append({"spec": runtime | service["spec"]["predictor"], "metadata": service["metadata"]})
    default = named(overlay, "NetworkPolicy", "nothing-but-names")["spec"]["podSelector"]["matchLabels"]
    for template in made:
        assert default.items() <= template["metadata"]["labels"].items()
        assert_restricted("made", template)
        pod = template["spec"]["securityContext"]
        assert pod["runAsNonRoot"] is True and pod["fsGroup"] == pod["runAsUser"]


def test_kind_fits_on_a_laptop(tmp_path: Path) -> None:
    """All permanent pods, two versions, and the steps of a run that work at the same time."""
    requests = 0.0
    for one in built("kind"):
        if one["kind"] in ("Deployment", "StatefulSet"):
            containers = one["spec"]["template"]["spec"]["containers"]
            memory = sum(gib(container["resources"]["requests"]["memory"]) for container in containers)
            requests += memory * one["spec"].get("replicas", 1)
    job, service = objects_of("kind", tmp_path)
    training = 0.0
    for spec in job["spec"]["pytorchReplicaSpecs"].values():
        (container,) = spec["template"]["spec"]["containers"]
        training += spec["replicas"] * gib(container["resources"]["requests"]["memory"])
    both = 2 * gib(service["spec"]["predictor"]["model"]["resources"]["requests"]["memory"])
    step = {name: gib(cluster.size_of(name).memory) for name in (*cluster.DEFAULT_SIZES, "package", "deploy")}
    # features are materialized while the training set is used; package and index work at the same time
    while_training = step["train"] + training + step["materialize"]
    afterwards = max(step["evaluate"], step["package"] + step["index"]) + step["materialize"]
    assert requests + both + max(step["govern"], while_training, afterwards) <= KIND_LIMIT_GIB
