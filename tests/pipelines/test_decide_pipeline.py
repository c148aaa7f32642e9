"""The decide pipeline: compiled for the Kubeflow UI, and run on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.image import IMAGE
from immr.experiment import changes
from immr.experiment.file import load, save
from immr.settings import Settings
from tests.support.page_home import fill

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def spec(compiled: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = next(yaml.safe_load_all((compiled / "decide.yaml").read_text()))
    return loaded


def test_the_only_step_uses_the_image_and_is_not_cached(spec: dict[str, Any]) -> None:
    [executor] = spec["deploymentSpec"]["executors"].values()
    assert executor["container"]["image"] == IMAGE
    assert "pip install" not in " ".join(executor["container"]["command"])
    assert not spec["root"]["dag"]["tasks"]["watch"].get("cachingOptions", {}).get("enableCache")


def test_apply_is_a_parameter_with_a_default(spec: dict[str, Any]) -> None:
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert set(parameters) == {"apply"}
    assert parameters["apply"]["defaultValue"] is True
    assert parameters["apply"]["description"]


def test_it_runs_in_a_separate_process(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    fill(tmp_path, ["http://a:1", "http://b:1"], users=60, started=datetime(2024, 5, 1, tzinfo=UTC))
    save(changes.stop(load(settings.experiment_file), datetime.now(UTC)), settings.experiment_file)
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", "decide"],
        cwd=ROOT,
        env={**os.environ, **settings.environment()},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    output = " ".join((done.stdout + done.stderr).split())
    assert "wait: There is nothing to decide" in output
