"""What MLflow shows about a version: signature, training set, metrics, pipeline run, and why it has its role."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from immr.registry.logged_models import DATASET, LOGGED_MODEL, Origin
from immr.registry.registry import Registry
from immr.types import ModelVersion
from tests.registry.conftest import register, version_files

ORIGIN = Origin(
    image_size_px=64,
    training_set="/immr/work/training-sets/abc",
    sizes={"photos": 2518, "classes": 81},
    pipeline_run="run-7",
    pipeline_link="http://kubeflow.example/#/runs/details/run-7",
)


def client_of(home: Path) -> Any:
    from mlflow.tracking import MlflowClient

    url = f"sqlite:///{home}/mlflow/mlflow.db"
    return MlflowClient(tracking_uri=url, registry_uri=url)


@pytest.fixture
def version(registry: Registry, home: Path) -> ModelVersion:
    run_id = registry.runs.start("concept", {"dim": 8}, key="key-1")
    made = registry.register(
        version_files(home), "key-1", run_id, dim=8, preprocessing_hash="p", manifest_hash="m" * 64,
        recipe="concept", origin=ORIGIN,
    )  # fmt: skip
    registry.runs.finish(run_id)
    return made


def test_a_versions_page_leads_to_its_pipeline_run_and_training_set(
    version: ModelVersion, home: Path
) -> None:
    client = client_of(home)
    entry = client.get_model_version("immr", "1")
    assert "[`run-7`](http://kubeflow.example/#/runs/details/run-7)" in entry.description
    assert "2,518 photos, 81 classes" in entry.description
    assert entry.tags["immr.pipeline_run"] == "run-7"
    assert entry.tags["immr.manifest_hash"] == "m" * 64
    (dataset,) = client.get_run(version.run_id).inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == (DATASET, "m" * 36)
    assert json.loads(dataset.dataset.source) == {"uri": "/immr/work/training-sets/abc"}
    (model,) = client.get_run(version.run_id).outputs.model_outputs
    assert model.model_id == entry.tags[LOGGED_MODEL]


def test_mlflow_reads_the_signature_of_a_version(version: ModelVersion, home: Path) -> None:
    from mlflow.models import get_model_info
    from mlflow.tracking import get_tracking_uri, set_tracking_uri

    before = get_tracking_uri()
    set_tracking_uri(f"sqlite:///{home}/mlflow/mlflow.db")
    try:
        signature = get_model_info("models:/immr/1").signature
    finally:
        set_tracking_uri(before)
    ((pixels,), (embedding,)) = (signature.inputs.to_dict(), signature.outputs.to_dict())
    assert (pixels["name"], pixels["tensor-spec"]["shape"]) == ("pixels", (-1, 3, 64, 64))
    assert (embedding["name"], embedding["tensor-spec"]["shape"]) == ("embedding", (-1, 8))


def test_metrics_of_an_evaluation_belong_to_model_and_training_set(
    registry: Registry, version: ModelVersion, home: Path
) -> None:
    registry.log_evaluation(version, {"recall@1": 0.5})
    model_id = client_of(home).get_model_version("immr", "1").tags[LOGGED_MODEL]
    (metric,) = client_of(home).get_logged_model(model_id).metrics
    assert (metric.key, metric.value, metric.dataset_name) == ("recall_at_1", 0.5, DATASET)
    assert client_of(home).get_run(version.run_id).data.metrics["recall_at_1"] == 0.5


def test_an_interrupted_registration_leaves_one_logged_model(registry: Registry, home: Path) -> None:
    run_id = registry.runs.start("concept", {}, key="key-1")
    (experiment,) = {client_of(home).get_run(run_id).info.experiment_id}
    half = client_of(home).create_logged_model(experiment, source_run_id=run_id)
    register(registry, home, "key-1")
    models = client_of(home).search_logged_models([experiment])
    assert [model.model_id for model in models] == [half.model_id]
    assert models[0].status == "READY"


def test_a_version_of_immr_0_1_is_fetched_and_restored(registry: Registry, home: Path) -> None:
    """Its files are artifacts of its run, and it has no LoggedModel."""
    run_id = registry.runs.start("concept", {}, key="key-1")
    client = client_of(home)
    client.log_artifacts(run_id, str(version_files(home)), "version")
    client.create_registered_model("immr")
    tags = {"immr.key": "key-1", "immr.dim": "8", "immr.preprocessing_hash": "p", "immr.manifest_hash": "m",
            "immr.recipe": "concept"}  # fmt: skip
    source = f"{client.get_run(run_id).info.artifact_uri}/version"
    client.create_model_version("immr", source, run_id, tags=tags)
    old = registry.get("1")
    folder = registry.fetch(old, home / "cache")
    assert (folder / "card.json").read_text() == "{}"
    (folder / "card.json").unlink()
    registry.restore(old, version_files(home))
    assert (registry.fetch(old, home / "cache") / "card.json").read_text() == "{}"
    registry.log_evaluation(old, {"recall@1": 0.5})
    assert client.get_run(run_id).data.metrics == {"recall_at_1": 0.5}


def test_a_role_has_a_reason_and_a_link_to_its_decision(
    registry: Registry, version: ModelVersion, home: Path
) -> None:
    registry.set_role("champion", version, "B earned more clicks.", "http://page.example/tests/spring")
    change = json.loads(registry.tags(version)["immr.champion"])
    assert change["reason"] == "B earned more clicks."
    assert change["report"] == "http://page.example/tests/spring"
    registry.set_role("champion", version, "It was deployed again.")
    registry.set_role("champion", version, "B earned more clicks.", "http://page.example/tests/spring")
    *origin, last = client_of(home).get_model_version("immr", "1").description.split("\n\n")
    assert last.startswith("Became **champion** on 20")
    assert last.endswith("B earned more clicks. [Report of the test](http://page.example/tests/spring)")
    assert len(origin) == 3, "what was said about the role before is replaced"
