"""The retry policy of Kubeflow Pipelines' workflow controller."""

from __future__ import annotations

from typing import Any

import pytest

from immr.doctor.pipelines import retries_of
from immr.errors import ImmrError

# as shipped with Kubeflow Pipelines 2.17
STOCK = """\
spec:
  ttlStrategy:
    secondsAfterCompletion: 3600
  templateDefaults:
    retryStrategy:
      limit: '2'
      retryPolicy: OnError
"""


def config_map(defaults: str) -> dict[str, Any]:
    return {"data": {"workflowDefaults": defaults}}


def test_a_stock_server_replaces_lost_pods() -> None:
    assert retries_of(config_map(STOCK)).startswith("OnError: lost pods are replaced")


def test_a_policy_that_also_repeats_failures_is_reported() -> None:
    assert "in addition to their own" in retries_of(config_map(STOCK.replace("OnError", "Always")))


@pytest.mark.parametrize(
    "body",
    [
        {},
        config_map(""),
        config_map("spec: {}"),
        config_map(STOCK.replace("OnError", "OnFailure")),
        config_map("spec: {templateDefaults: {retryStrategy: {limit: 2}}}"),
    ],
)
def test_without_a_policy_for_lost_pods_a_drained_node_fails_the_run(body: dict[str, Any]) -> None:
    with pytest.raises(ImmrError, match=r"OnFailure.*a step whose pod is lost fails the run"):
        retries_of(body)


@pytest.mark.parametrize("defaults", ["- a list", "spec: [", "spec: text"])
def test_a_config_map_that_cannot_be_read_is_reported(defaults: str) -> None:
    with pytest.raises(ImmrError, match="no readable workflowDefaults"):
        retries_of(config_map(defaults))
