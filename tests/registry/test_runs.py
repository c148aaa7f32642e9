"""Runs are resumed until they finish, and keep parameters, metrics and reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from immr.registry.registry import Registry
from immr.registry.runs import Runs
from immr.registry.store import Store
from tests.registry.conftest import open_registry


def test_an_unfinished_run_is_resumed_and_a_finished_one_is_not(registry: Registry, home: Path) -> None:
    first = registry.runs.start("concept", {"train": {"epochs": 3, "seed": 0}}, {"who": "test"}, key="k")
    assert open_registry(home).runs.start("concept", {"train": {"epochs": 9}, "new": 1}, key="k") == first
    registry.runs.finish(first, failed=True)
    assert registry.runs.start("concept", {}, key="k") == first
    assert registry.runs.start("concept", {}, key="other") != first
    registry.runs.finish(first)
    assert registry.runs.start("concept", {}, key="k") != first


def test_the_run_of_a_version_that_is_reused_has_finished_once(registry: Registry) -> None:
    def info() -> Any:
        return registry.runs._store.call("get_run", run_id).info

    run_id = registry.runs.start("concept", {}, key="k")
    registry.runs.finish_of_reused(run_id)
    first = info()
    assert first.status == "FINISHED"
    registry.runs.finish_of_reused(run_id)
    assert info().end_time == first.end_time
    registry.runs.finish_of_reused("deleted")


def test_params_metrics_and_reports_reach_mlflow(registry: Registry, home: Path) -> None:
    from mlflow.tracking import MlflowClient

    params = {"train": {"epochs": 3}, "long": "x" * 7000, **{f"p{number}": number for number in range(150)}}
    run_id = registry.runs.start("concept", params, {"who": "test"}, key="k")
    registry.runs.log_metrics(run_id, {"recall@1": 0.5, "loss": 2})
    registry.runs.log_metrics(run_id, {"loss": 1.5}, step=1)
    report = home / "some.html"
    report.write_text("<p>hello")
    registry.runs.log_report(run_id, report, "gallery.html")

    url = f"sqlite:///{home}/mlflow/mlflow.db"
    client = MlflowClient(tracking_uri=url, registry_uri=url)
    run = client.get_run(run_id)
    assert run.info.run_name == "concept"
    assert run.data.params["train.epochs"] == "3"
    assert len(run.data.params) == 152
    assert run.data.metrics == {"recall_at_1": 0.5, "loss": 1.5}
    assert run.data.tags["who"] == "test"
    assert [entry.path for entry in client.list_artifacts(run_id, "reports")] == ["reports/gallery.html"]


def test_mlflow_opens_the_experiment_as_training_runs(registry: Registry, home: Path) -> None:
    from mlflow.tracking import MlflowClient

    url, kind = f"sqlite:///{home}/mlflow/mlflow.db", "mlflow.experimentKind"
    client = MlflowClient(tracking_uri=url, registry_uri=url)

    def kind_after_a_run(key: str) -> str:
        open_registry(home).runs.start("concept", {}, key=key)
        found = client.get_experiment_by_name("immr")
        assert found is not None
        return str(found.tags[kind])

    assert kind_after_a_run("a") == "custom_model_development"
    experiment = client.get_experiment_by_name("immr")
    assert experiment is not None
    client.set_experiment_tag(experiment.experiment_id, kind, "finetuning")
    assert kind_after_a_run("b") == "finetuning", "a kind that someone has chosen stays"
    client.delete_experiment_tag(experiment.experiment_id, kind)
    assert kind_after_a_run("c") == "custom_model_development", "an earlier release set none"


def test_an_experiment_that_another_process_creates_meanwhile_is_used(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(f"sqlite:///{home / 'mlflow.db'}", "immr")
    first = Runs(store, "immr").start("first", {}, key="a")
    call, asked = store.call, 0

    def late(method: str, *values: Any, **named: Any) -> Any:
        nonlocal asked
        asked += method == "get_experiment_by_name"
        return None if method == "get_experiment_by_name" and asked == 1 else call(method, *values, **named)

    monkeypatch.setattr(store, "call", late)
    second = Runs(store, "immr").start("second", {}, key="b")
    found = [call("get_run", run).info.experiment_id for run in (first, second)]
    assert found[0] == found[1] and asked == 2
