"""How the Kubeflow Pipelines server is configured to retry failed steps.

IMMR's steps retry after an error themselves; they rely on the server only to replace a pod that was lost (a drained
node, an eviction). Argo does that with the policies `OnError` and `Always`, not with `OnFailure`, its own default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from immr.errors import ImmrError

CONFIG = "workflow-controller-configmap"
PATH = f"/api/v1/namespaces/kubeflow/configmaps/{CONFIG}"
REMEDY = (
    f"set retryPolicy: OnError below workflowDefaults.spec.templateDefaults.retryStrategy in the ConfigMap {CONFIG} "
    "of the namespace kubeflow, as Kubeflow Pipelines 2.17 does"
)
_REPLACES_LOST_PODS = ("OnError", "Always")


def retries_of(config_map: Mapping[str, Any]) -> str:
    """What the workflow controller's ConfigMap says about retries, in a sentence.

    Raises:
        ImmrError: A pod that was lost is not replaced, so the run fails; or the ConfigMap cannot be read.
    """
    try:
        defaults = yaml.safe_load(config_map.get("data", {}).get("workflowDefaults", "")) or {}
        strategy = defaults.get("spec", {}).get("templateDefaults", {}).get("retryStrategy") or {}
    except (yaml.YAMLError, AttributeError) as error:
        raise ImmrError(f"{CONFIG} has no readable workflowDefaults ({type(error).__name__})") from error
    policy = strategy.get("retryPolicy")
    if policy not in _REPLACES_LOST_PODS:
        raise ImmrError(
            f"policy {policy or 'OnFailure (the default)'}: a step whose pod is lost fails the run"
        )
    if policy == "Always":
        return "Always: lost pods are replaced, and failed steps repeated, in addition to their own retries"
    return "OnError: lost pods are replaced; a step repeats its own failures"
