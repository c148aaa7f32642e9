"""The YAML that goes to the Kubeflow UI."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from components.image import IMAGE

STEPS = {"govern", "train", "evaluate", "materialize", "package", "index", "deploy"}


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from pipelines.__main__ import compile_all

    out: Path = tmp_path_factory.mktemp("compiled")
    compile_all(out)
    loaded: dict[str, Any]
    loaded, platform = yaml.safe_load_all((out / "refresh.yaml").read_text())
    return loaded | platform


def test_every_step_is_a_component_in_the_one_image(spec: dict[str, Any]) -> None:
    executors = spec["deploymentSpec"]["executors"]
    assert {name.removeprefix("exec-") for name in executors} == STEPS
    assert {executor["container"]["image"] for executor in executors.values()} == {IMAGE}


def test_nothing_is_installed_at_run_time(spec: dict[str, Any]) -> None:
    for executor in spec["deploymentSpec"]["executors"].values():
        assert "pip install" not in " ".join(executor["container"]["command"])


def test_every_parameter_has_a_default(spec: dict[str, Any]) -> None:
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert {"data_uri", "recipe", "processes", "gate_margin"} == set(parameters)
    assert all("defaultValue" in parameter and parameter["description"] for parameter in parameters.values())


def test_packaging_indexing_and_deploying_wait_for_the_gate(spec: dict[str, Any]) -> None:
    condition = spec["root"]["dag"]["tasks"]["condition-1"]
    assert "evaluate-Output" in condition["triggerPolicy"]["condition"]
    assert set(spec["components"]["comp-condition-1"]["dag"]["tasks"]) == {"package", "index", "deploy"}


def test_steps_that_depend_on_more_than_their_inputs_are_never_cached(spec: dict[str, Any]) -> None:
    tasks = spec["root"]["dag"]["tasks"] | spec["components"]["comp-condition-1"]["dag"]["tasks"]
    cached = {name for name, task in tasks.items() if task.get("cachingOptions", {}).get("enableCache")}
    assert cached == {"govern", "train", "package", "index"}


def test_every_step_has_the_shared_home_and_the_settings(spec: dict[str, Any]) -> None:
    executors = spec["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert {name.removeprefix("exec-") for name in executors} == STEPS
    base = Path(__file__).resolve().parents[2] / "k8s" / "base"
    settings = yaml.safe_load((base / "settings" / "settings.yaml").read_text())
    claim = yaml.safe_load((base / "storage" / "home.yaml").read_text())
    for executor in executors.values():
        (mount,), (source,) = executor["pvcMount"], executor["configMapAsEnv"]
        assert mount["constant"] == claim["metadata"]["name"]
        assert mount["mountPath"] == settings["data"]["IMMR_HOME"]
        assert source["configMapName"] == settings["metadata"]["name"]
        assert {one["configMapKey"] for one in source["keyToEnv"]} == set(settings["data"])
