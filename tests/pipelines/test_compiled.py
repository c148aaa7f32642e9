"""The YAML that people upload in the Kubeflow UI."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import dsl

from components.image import IMAGE
from immr.errors import SettingsError
from pipelines import cluster

STEPS = {
    "govern",
    "train",
    "evaluate",
    "materialize",
    "rank",
    "package",
    "index",
    "deploy",
    "start-test",
    "finish",
}


@pytest.fixture(scope="module")
def spec(compiled: Path) -> dict[str, Any]:
    loaded: dict[str, Any]
    loaded, platform = yaml.safe_load_all((compiled / "refresh.yaml").read_text())
    return loaded | platform


def step(name: str) -> str:
    """The step of an executor or task; those after the gate exist twice, with and without a ranker."""
    return name.removeprefix("exec-").removesuffix("-2")


def test_every_step_is_a_component_in_the_same_image(spec: dict[str, Any]) -> None:
    executors = spec["deploymentSpec"]["executors"]
    assert {step(name) for name in executors} == STEPS
    assert {executor["container"]["image"] for executor in executors.values()} == {IMAGE}


def test_nothing_is_installed_at_run_time(spec: dict[str, Any]) -> None:
    for executor in spec["deploymentSpec"]["executors"].values():
        assert "pip install" not in " ".join(executor["container"]["command"])


def test_every_parameter_has_a_default(spec: dict[str, Any]) -> None:
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert set(parameters) == {
        "data_uri",
        "recipe",
        "processes",
        "gpus_per_process",
        "gate_margin",
        "rank",
        "deploy",
        "share",
    }
    assert all("defaultValue" in parameter and parameter["description"] for parameter in parameters.values())


def tasks(spec: dict[str, Any], component: str) -> dict[str, Any]:
    found: dict[str, Any] = spec["components"][f"comp-{component}"]["dag"]["tasks"]
    return found


def condition(spec: dict[str, Any], component: str, task: str) -> str:
    found: str = tasks(spec, component)[task]["triggerPolicy"]["condition"]
    return found


def test_packaging_indexing_and_deploying_depend_on_the_gate(spec: dict[str, Any]) -> None:
    for branch, gate, inner in (
        ("condition-2", "condition-3", "condition-4"),
        ("condition-5", "condition-6", "condition-7"),
    ):
        assert set(tasks(spec, branch)) == {gate}, "no step after the gate is outside it"
        assert condition(spec, branch, gate).endswith("--evaluate-passed'] == true")
        assert {step(name) for name in tasks(spec, gate)} - {"rank"} == {"package", "index", inner}
        assert "deploy" in condition(spec, gate, inner)
        assert {step(name) for name in tasks(spec, inner)} == {"deploy", "start-test"}


def test_a_run_without_a_ranker_starts_no_pod_for_it(spec: dict[str, Any]) -> None:
    assert condition(spec, "exit-handler-1", "condition-2").endswith("--rank'] == false")
    assert condition(spec, "exit-handler-1", "condition-5").endswith("--rank'] == true")
    assert "rank" not in tasks(spec, "condition-3") and "rank" in tasks(spec, "condition-6")
    assert "package" in tasks(spec, "condition-3"), "the usual branch has the plain names"


def test_the_exit_step_runs_however_the_run_ends(spec: dict[str, Any]) -> None:
    finish = spec["root"]["dag"]["tasks"]["finish"]
    assert finish["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert finish["inputs"]["parameters"]["status"]["taskFinalStatus"]["producerTask"] == "exit-handler-1"


def test_every_step_is_retried_and_none_is_cached(spec: dict[str, Any]) -> None:
    found = {}
    for component in ("exit-handler-1", *(f"condition-{number}" for number in range(2, 8))):
        found |= {name: one for name, one in tasks(spec, component).items() if "condition" not in name}
    assert {step(name) for name in found} == STEPS - {"finish"}
    for name, task in found.items():
        assert task["retryPolicy"]["maxRetryCount"] == 2
        assert task["retryPolicy"]["backoffDuration"] == "30s"
        assert not task.get("cachingOptions", {}).get("enableCache")
        container = spec["deploymentSpec"]["executors"][f"exec-{name}"]["container"]
        assert {"name": "IMMR_STEP_TRIES", "value": "3"} in container["env"]


def test_training_uses_the_image_of_its_step(spec: dict[str, Any]) -> None:
    for name, executor in spec["deploymentSpec"]["executors"].items():
        image = executor["container"]["image"]
        assert {"name": "IMMR_PIPELINE_IMAGE", "value": image} in executor["container"]["env"], name


def test_a_step_that_lost_its_pod_after_hours_is_retried(spec: dict[str, Any]) -> None:
    """Argo stops retrying once this time has passed since the first attempt, however long that ran."""
    policy = tasks(spec, "exit-handler-1")["train"]["retryPolicy"]
    assert int(policy["backoffMaxDuration"].removesuffix("s")) >= cluster.DAY_S


def test_the_step_of_a_training_waits_as_long_as_its_job_may_run(spec: dict[str, Any]) -> None:
    """`active_deadline_s` in IMMR_LAUNCH_URL limits the job; the step was once killed after a day in any case."""
    executors = spec["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    limits_s = {step(name): executor["activeDeadlineSeconds"] for name, executor in executors.items()}
    assert int(limits_s.pop("train")) >= 14 * cluster.DAY_S
    assert {int(limit_s) for limit_s in limits_s.values()} == {cluster.DAY_S}
    policy = tasks(spec, "exit-handler-1")["train"]["retryPolicy"]
    assert int(policy["backoffMaxDuration"].removesuffix("s")) >= 14 * cluster.DAY_S


def test_every_step_reserves_cpu_and_memory(spec: dict[str, Any]) -> None:
    executors = spec["deploymentSpec"]["executors"]
    for name, executor in executors.items():
        resources = executor["container"]["resources"]
        assert resources == executors[f"exec-{step(name)}"]["container"]["resources"], name
        assert {"resourceCpuRequest", "resourceMemoryRequest", "resourceMemoryLimit"} <= set(resources), name


def test_a_steps_size_is_set_by_name() -> None:
    assert cluster.step_sizes("govern=2/8Gi/16Gi, index=500m/4Gi/4Gi") == {
        "govern": cluster.StepSize("2", "8Gi", "16Gi"),
        "index": cluster.StepSize("500m", "4Gi", "4Gi"),
    }
    for wrong in ("govern=2/8Gi", "govern", "govern=2//8Gi"):
        with pytest.raises(SettingsError, match="write step=cpu/memory/memory_limit"):
            cluster.step_sizes(wrong)


def artifacts(spec: dict[str, Any], component: str, side: str) -> dict[str, str]:
    """A component's input or output artifacts: type by name."""
    there = spec["components"][f"comp-{component}"].get(f"{side}Definitions", {}).get("artifacts", {})
    return {name: one["artifactType"]["schemaTitle"].removeprefix("system.") for name, one in there.items()}


def test_artifacts_are_named_and_typed(spec: dict[str, Any]) -> None:
    made = {name: artifacts(spec, name, "output") for name in STEPS}
    assert made == {
        "govern": {"training_set": "Dataset", "governance_report": "HTML", "counts": "Metrics"},
        "train": {"model": "Model"},
        "evaluate": {"metrics": "Metrics", "gallery": "HTML", "verdict": "Markdown"},
        "materialize": {},
        "rank": {"ranked_model": "Model"},
        "package": {},
        "index": {"counts": "Metrics"},
        "deploy": {},
        "start-test": {},
        "finish": {"summary": "Markdown"},
    }


def test_every_output_is_named(compiled: Path) -> None:
    """`Output` is KFP's name for a component's single return value."""
    for pipeline in ("refresh", "decide", "catalogue", "start"):
        body = next(yaml.safe_load_all((compiled / f"{pipeline}.yaml").read_text()))
        for name, component in body["components"].items():
            for outputs in component.get("outputDefinitions", {}).values():
                assert "Output" not in outputs, f"{name} of {pipeline}"


def test_the_graph_leads_from_training_set_to_model_to_deployment(spec: dict[str, Any]) -> None:
    """A step reads the training set itself from the shared home; the artifact only describes it."""
    assert artifacts(spec, "train", "input") == {"training_set": "Dataset"}
    for name in ("evaluate", "rank", "index"):
        assert artifacts(spec, name, "input") == {"training_set": "Dataset", "model": "Model"}
    for name in ("package", "deploy"):
        assert artifacts(spec, name, "input") == {"model": "Model"}


def test_every_step_has_the_shared_home_and_the_settings(spec: dict[str, Any]) -> None:
    executors = spec["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert {step(name) for name in executors} == STEPS
    base = Path(__file__).resolve().parents[2] / "k8s" / "base"
    settings = yaml.safe_load((base / "settings" / "settings.yaml").read_text())
    claim = yaml.safe_load((base / "storage" / "home.yaml").read_text())
    for name, executor in executors.items():
        assert executor["securityContext"] == {
            "runAsUser": "10001",
            "runAsGroup": "10001",
            "runAsNonRoot": True,
        }
        (mount,), (source,) = executor["pvcMount"], executor["configMapAsEnv"]
        assert mount["constant"] == claim["metadata"]["name"]
        assert mount["mountPath"] == settings["data"]["IMMR_HOME"]
        assert source["configMapName"] == settings["metadata"]["name"]
        assert {one["configMapKey"] for one in source["keyToEnv"]} == set(settings["data"])
        secret, s3, *alerts = executor["secretAsEnv"]
        assert secret["secretName"] == "immr-postgres"
        assert secret["keyToEnv"] == [{"secretKey": "password", "envVar": "PGPASSWORD"}]
        # a cluster may have neither S3, nor Redis, nor a registry with a password
        assert (s3["secretName"], s3["optional"]) == ("immr-s3", True)
        assert [one["secretName"] for one in alerts] == (["immr-alerts"] if name == "exec-finish" else [])
        assert all(one["optional"] for one in alerts)
        volumes = {one["secretName"]: one for one in executor["secretAsVolume"]}
        assert set(volumes) == {"immr-redis", "immr-registry"}
        assert all(one["optional"] for one in volumes.values())
        docker_config = {"name": "DOCKER_CONFIG", "value": volumes["immr-registry"]["mountPath"]}
        assert docker_config in spec["deploymentSpec"]["executors"][name]["container"]["env"]


def test_a_wrong_setting_is_named_without_reading_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inspect.stack", lambda: pytest.fail("it reads sources for seconds"))

    def imports() -> None:
        cluster.at_home(dsl.importer(artifact_uri="/shop", artifact_class=dsl.Dataset))

    with pytest.raises(ValueError, match="set_env_variable can only be used on single-step components"):
        dsl.pipeline(imports)
