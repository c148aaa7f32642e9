"""Autoscaling, spreading over nodes, disruption budgets, and the size of training pods."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml
from sqlalchemy.pool import QueuePool

from immr.deploy.inference_service import ServingShape
from immr.features import sql_registry
from immr.launch.kubeflow.job_shape import JobShape
from serving.process.metrics import Metrics
from tests.k8s import schemas
from tests.k8s.test_manifests import (
    NAMESPACES,
    OVERLAYS,
    built,
    gib,
    named,
    objects_of,
    refused,
    settings_of,
    titled,
)

PROMTOOL = shutil.which("promtool")


def trigger() -> dict[str, str]:
    (found,) = named("production", "ScaledObject", "gateway")["spec"]["triggers"]
    assert found["type"] == "prometheus"
    metadata: dict[str, str] = found["metadata"]
    return metadata


def test_gateways_are_scaled_by_a_metric_that_is_served() -> None:
    (series,) = re.findall(r"\b(immr_\w+)\{", trigger()["query"])
    assert series in {metric.name for metric in Metrics().registry.collect()}
    assert f'namespace="{NAMESPACES["production"]}"' in trigger()["query"]
    assert 'job="gateway"' in trigger()["query"], "the ServiceMonitor names the job after the Service"


def test_gateways_that_prometheus_has_lost_are_not_removed() -> None:
    """KEDA 2.20 takes an empty answer for 0 by default; only an error leads to the fallback."""
    spec = named("production", "ScaledObject", "gateway")["spec"]
    assert trigger()["ignoreNullValues"] == "false"
    assert spec["fallback"]["behavior"] == "currentReplicasIfHigher"
    assert spec["fallback"]["replicas"] >= spec["minReplicaCount"]
    # relevant only for scaling to zero: KEDA's webhook warns of both
    assert not {"pollingInterval", "cooldownPeriod"} & set(spec)


def test_versions_are_scaled_by_keda_through_kserve(tmp_path: Path) -> None:
    schemas.needed()
    _, service = objects_of("production", tmp_path)
    assert schemas.problems(service) == []
    assert service["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "keda"
    predictor = service["spec"]["predictor"]
    assert "scaleMetric" not in predictor and predictor["maxReplicas"] > predictor["minReplicas"] >= 2
    (metric,) = predictor["autoScaling"]["metrics"]
    source = metric["external"]
    assert source["metric"]["serverAddress"] == trigger()["serverAddress"]
    # PodMonitor `search` copies this label of the pods into the series
    (label,) = named("production", "PodMonitor", "search")["spec"]["podTargetLabels"]
    assert f'{re.sub("[./]", "_", label)}="{service["metadata"]["name"]}"' in source["metric"]["query"]
    assert service["metadata"]["labels"][label] == service["metadata"]["name"]
    assert int(source["target"]["value"]) == shape("production").in_flight_target


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool: apt-get install prometheus (make prometheus)")
def test_a_version_that_prometheus_has_lost_keeps_its_pods(tmp_path: Path) -> None:
    """Two pods with 6 searches each are scraped for twenty minutes, and then no longer."""
    assert PROMTOOL is not None
    _, service = objects_of("production", tmp_path)
    (metric,) = service["spec"]["predictor"]["autoScaling"]["metrics"]
    query = metric["external"]["metric"]["query"]
    labels = re.findall(r"immr_searches_in_progress\{(.*?)\}", query)[0]
    load = [
        {"series": f'immr_searches_in_progress{{{labels}, pod="{pod}"}}', "values": "6x80"}
        for pod in ("a", "b")
    ]
    kept = [{"labels": "{}", "value": 12}]
    expected = {"10m": kept, "40m": kept, "75m": kept, "90m": []}
    tests = [{"expr": query, "eval_time": at, "exp_samples": found} for at, found in expected.items()]
    file = tmp_path / "query.yaml"
    file.write_text(
        yaml.safe_dump({"tests": [{"interval": "15s", "input_series": load, "promql_expr_test": tests}]})
    )
    done = subprocess.run([PROMTOOL, "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def shape(overlay: str) -> ServingShape:
    return ServingShape.from_query(dict(parse_qsl(urlsplit(settings_of(overlay)["IMMR_DEPLOY_URL"]).query)))


def test_a_version_grows_before_its_pods_refuse_searches() -> None:
    from serving.wire.admission import IN_PROGRESS_PER_CORE

    production = shape("production")
    assert production.in_flight_target <= IN_PROGRESS_PER_CORE * int(production.cpu) / 2


def test_a_deploy_in_production_waits_for_a_new_node() -> None:
    """A cluster autoscaler takes minutes to add one; until then the pods are unschedulable."""
    production = shape("production")
    assert 180 <= production.node_grace_s < production.ready_timeout_s
    assert production.pending_grace_s <= 60, "an image that does not exist is no reason to wait for minutes"


def test_without_keda_the_cpu_decides() -> None:
    with tempfile.TemporaryDirectory(prefix=".test-", dir=schemas.ROOT / "k8s" / "overlays") as folder:
        text = "resources: [../production]\ncomponents: [../../components/cpu-scaling]\nnamespace: immr\n"
        (Path(folder) / "kustomization.yaml").write_text(text)
        done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = {titled(one): one for one in yaml.safe_load_all(done.stdout)}
    assert not [title for title in made if title.startswith("ScaledObject")]
    assert refused(made["HorizontalPodAutoscaler/gateway"]) == ""
    url = made["ConfigMap/immr-settings"]["data"]["IMMR_DEPLOY_URL"]
    assert url == settings_of("production")["IMMR_DEPLOY_URL"].replace("&in_flight_target=8", "")


def test_the_database_has_a_connection_for_everyone() -> None:
    (postgres,) = named("production", "StatefulSet", "postgres")["spec"]["template"]["spec"]["containers"]
    (allowed,) = (int(one.split("=")[1]) for one in postgres["args"] if one.startswith("max_connections="))
    mlflow = named("production", "Deployment", "mlflow")["spec"]
    (command,) = (one["args"] for one in mlflow["template"]["spec"]["containers"])
    (workers,) = (int(one.split("=")[1]) for one in command if one.startswith("--workers="))
    while_rolling = mlflow["replicas"] + mlflow["strategy"]["rollingUpdate"]["maxSurge"]
    pool = QueuePool(lambda: None)  # type: ignore[arg-type,return-value]
    per_worker = pool.size() + pool._max_overflow
    gateways = named("production", "ScaledObject", "gateway")["spec"]["maxReplicaCount"]
    (of_registry,) = re.findall(r"pool_size: (\d+), max_overflow: (\d+)", inspect.getsource(sql_registry))
    versions = 2 * shape("production").max_replicas * sum(map(int, of_registry))
    steps_and_page = 20
    assert while_rolling * workers * per_worker + 2 * gateways + versions + steps_and_page <= allowed


def test_a_drain_takes_one_pod_of_a_kind_at_a_time() -> None:
    """A PodDisruptionBudget for all that has two pods or more; a single pod would block every drain."""
    several = {"gateway", "qdrant", "mlflow", "search"}
    budgets = {
        one["metadata"]["name"]: one["spec"]
        for one in built("production")
        if one["kind"] == "PodDisruptionBudget"
    }
    assert set(budgets) == several
    assert {budget["maxUnavailable"] for budget in budgets.values()} == {1}


@pytest.mark.parametrize(
    ("kind", "name"), [("StatefulSet", "gateway"), ("StatefulSet", "qdrant"), ("Deployment", "mlflow")]
)
def test_pods_of_a_kind_are_on_different_nodes(kind: str, name: str) -> None:
    template = named("production", kind, name)["spec"]["template"]
    affinity = template["spec"].get("affinity", {}).get("podAntiAffinity", {})
    terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", [])
    terms += [
        one["podAffinityTerm"] for one in affinity.get("preferredDuringSchedulingIgnoredDuringExecution", [])
    ]
    terms += template["spec"].get("topologySpreadConstraints", [])
    over_nodes = [one for one in terms if one["topologyKey"] == "kubernetes.io/hostname"]
    assert over_nodes
    for term in over_nodes:
        assert term["labelSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_training_pods_have_the_size_of_the_settings(overlay: str, tmp_path: Path) -> None:
    url = settings_of(overlay)["IMMR_LAUNCH_URL"]
    shape = JobShape.from_query(dict(parse_qsl(urlsplit(url).query)))
    job, _ = objects_of(overlay, tmp_path)
    for replica in job["spec"]["pytorchReplicaSpecs"].values():
        pod = replica["template"]["spec"]
        (container,) = pod["containers"]
        resources = container["resources"]
        assert (resources["requests"]["cpu"], resources["requests"]["memory"]) == (shape.cpu, shape.memory)
        assert resources["limits"]["memory"] == shape.memory
        (shared,) = (
            one["emptyDir"] for one in pod["volumes"] if one.get("emptyDir", {}).get("medium") == "Memory"
        )
        assert shared["sizeLimit"] == shape.shared_memory
        # what is in shared memory counts towards the container's limit
        assert gib(shape.shared_memory) <= gib(shape.memory) / 4
