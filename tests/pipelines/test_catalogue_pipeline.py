"""The catalogue pipeline: compiled for the Kubeflow UI, and run on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from components.image import IMAGE
from immr.loop.items import delivery
from immr.settings import Settings
from immr.wiring import connect
from tests.support.catalogue_home import blue, prepared, settings, titles, write

__all__ = ["prepared", "settings"]  # fixtures
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def spec(compiled: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = next(yaml.safe_load_all((compiled / "catalogue.yaml").read_text()))
    return loaded


def test_changes_are_recorded_once_and_delivery_is_retried(spec: dict[str, Any]) -> None:
    tasks = spec["root"]["dag"]["tasks"]
    assert set(tasks) == {"record-changes", "deliver"}
    assert "retryPolicy" not in tasks["record-changes"]
    assert tasks["deliver"]["retryPolicy"]["maxRetryCount"] == 2
    assert tasks["deliver"]["dependentTasks"] == ["record-changes"]
    assert {each["container"]["image"] for each in spec["deploymentSpec"]["executors"].values()} == {IMAGE}


def test_both_files_are_parameters_with_a_default(spec: dict[str, Any]) -> None:
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert {name: each["defaultValue"] for name, each in parameters.items()} == {
        "changed_uri": "",
        "deleted_uri": "",
    }
    assert all(each["description"] for each in parameters.values())


def run(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipelines", "catalogue", *arguments],
        cwd=ROOT,
        env={**os.environ, **settings.environment()},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_changes_reach_every_collection(settings: Settings, tmp_path: Path) -> None:
    changed = write(tmp_path / "changed.parquet", [blue(settings)])
    deleted = tmp_path / "deleted.parquet"
    pq.write_table(pa.table({"item_id": ["red", "red", "never there"], "why": ["sold"] * 3}), deleted)
    done = run(settings, f"--changed={changed}", f"--deleted={deleted}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for number in (1, 2):
        assert titles(settings, number) == {"green": "a green thing", "blue": "a blue thing"}


@pytest.mark.slow
def test_a_run_fails_if_a_live_index_is_down_but_keeps_the_changes(
    settings: Settings, tmp_path: Path
) -> None:
    away = settings.model_copy(update={"index_url": "http://127.0.0.1:9"})
    done = run(away, f"--changed={write(tmp_path / 'changed.parquet', [blue(settings)])}")
    output = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 1 and "they are stored; run the delivery again" in output
    assert [each.waiting for each in delivery.deliver(connect(settings))] == [0, 0]
    assert set(titles(settings, 1)) == {"red", "green", "blue"}
