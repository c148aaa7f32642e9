import pytest

from immr.deploy.inference_service import VERSION_ID, ServingShape, inference_service, object_name
from immr.errors import DeployError, SettingsError
from immr.types import ModelVersion

VERSION = ModelVersion("Immr", 3, "key", "run", 8, "p", "m", "concept")


def test_the_object_is_that_of_one_version() -> None:
    shape = ServingShape.from_query({"cpu": "2", "max_replicas": "4"})
    body = inference_service(VERSION, "immr-search:immr-3", "shop", shape)
    assert body["metadata"]["name"] == "immr-3" and body["metadata"]["namespace"] == "shop"
    assert body["metadata"]["annotations"][VERSION_ID] == VERSION.id
    predictor = body["spec"]["predictor"]
    assert predictor["maxReplicas"] == 4
    assert predictor["model"]["storageUri"] == "pvc://immr-home/bentoml/bentos/immr-search/immr-3"
    assert predictor["model"]["resources"]["requests"]["cpu"] == "2"
    assert "champion" not in str(body)  # a role would restart the pods when it changes


def test_kserves_webhook_takes_the_target_of_searches_in_progress() -> None:
    """It wants `value`, and for the type AverageValue `averageValue` too, which the definition does not show."""
    body = inference_service(VERSION, "immr-search:immr-3", "shop", ServingShape(in_flight_target=8))
    (metric,) = body["spec"]["predictor"]["autoScaling"]["metrics"]
    assert metric["external"]["target"] == {"type": "AverageValue", "value": "8", "averageValue": "8"}


def test_names_that_kubernetes_does_not_accept_are_refused() -> None:
    assert object_name("Immr-3") == "immr-3"
    with pytest.raises(DeployError, match="choose an IMMR_MODEL_NAME"):
        object_name("3-immr")
    with pytest.raises(DeployError, match="has no version"):
        inference_service(VERSION, "immr-search", "shop", ServingShape())
    with pytest.raises(SettingsError, match="IMMR_DEPLOY_URL"):
        ServingShape.from_query({"replicas": "2"})
