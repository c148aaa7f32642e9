"""The start pipeline: compiled for the Kubeflow UI, and run on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.image import IMAGE
from immr import recipes
from immr.settings import Settings
from immr.wiring import connect
from tests.loop.test_start import SMALL, shop

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def spec(compiled: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = next(yaml.safe_load_all((compiled / "start.yaml").read_text()))
    return loaded


def test_the_only_step_uses_the_image_and_is_retried(spec: dict[str, Any]) -> None:
    [executor] = spec["deploymentSpec"]["executors"].values()
    assert executor["container"]["image"] == IMAGE
    assert "pip install" not in " ".join(executor["container"]["command"])
    task = spec["root"]["dag"]["tasks"]["start"]
    assert task["retryPolicy"]["maxRetryCount"] == 2
    assert not task.get("cachingOptions", {}).get("enableCache")


def test_the_items_and_the_recipe_are_parameters_with_a_default(spec: dict[str, Any]) -> None:
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert parameters["recipe"]["defaultValue"] == "zero_shot"
    assert set(parameters) == {"items_uri", "recipe"}
    assert all("defaultValue" in each and each["description"] for each in parameters.values())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_catalogue_becomes_a_search(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    (tmp_path / "small.toml").write_text(recipes.to_toml(SMALL))
    made = shop(tmp_path / "shop")
    mapping = tmp_path / "shop" / "map.toml"
    mapping.write_text(f'source = "{made.uri}"\n' + mapping.read_text())
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", "start", str(mapping), "--recipe", str(tmp_path / "small.toml")],
        cwd=ROOT,
        env={**os.environ, **settings.environment()},
        capture_output=True,
        text=True,
        timeout=850,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    parts = connect(settings)
    assert parts.registry.get("champion").id == "immr-1"
    assert [each.version_id for each in parts.deployer.current()] == ["immr-1"]
    [report] = (settings.home / "pipeline").glob("*/start/catalogue_report")
    assert "<html" in report.read_text()
