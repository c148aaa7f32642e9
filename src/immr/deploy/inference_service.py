"""A version as an InferenceService. Nothing here calls the API; no other module imports kserve."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from immr.cluster.objects import CONTENT, MANAGED_BY, OUTSIDE_MESH, restricted_pod, shape_from_query
from immr.deploy.bento_storage import storage_uri
from immr.errors import DeployError
from immr.storage import fingerprint
from immr.types import ModelVersion

GROUP, VERSION, PLURAL = "serving.kserve.io", "v1beta1", "inferenceservices"
VERSION_ID, BENTO = "immr.dev/model-version", "immr.dev/bento"
BENTO_CONTENT = "immr.dev/bento-content"
MODEL_FORMAT = "immr-bento"
_AUTOSCALER = "serving.kserve.io/autoscalerClass"
_METRICS = ("scaleMetric", "scaleTarget", "autoScaling")
_SCALING = ("minReplicas", "maxReplicas", *_METRICS)
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")


@dataclass(frozen=True)
class ServingShape:
    """How a version serves. The URL can set each field: `kserve://immr?max_replicas=4`."""

    runtime: str = "immr-bento"  # ServingRuntime of k8s/base/serving
    storage: str = "pvc://immr-home/bentoml/bentos"  # folder of Bentos, or of images
    service_account: str = "immr-serving"
    min_replicas: int = 1
    max_replicas: int = 1
    cpu_target: int = 70  # CPU use, in percent of the request, above which a replica is added
    in_flight_target: int = 0  # searches in progress per replica that KEDA aims at; 0: scale by CPU
    prometheus: str = "http://prometheus-operated.monitoring:9090"  # where KEDA reads them
    cpu: str = "500m"
    memory: str = "1Gi"
    ready_timeout_s: int = 600
    pending_grace_s: int = 45  # how long a pod may be crashing, or without image or volume
    node_grace_s: int = 45  # how long it may wait for a node with room

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> ServingShape:
        """The defaults, overridden by a URL's query.

        Raises:
            SettingsError: A name is unknown, or a value is not a whole number where one is expected.
        """
        return shape_from_query(cls, "IMMR_DEPLOY_URL", query)


def inference_service(
    version: ModelVersion, bento: str, namespace: str, shape: ServingShape
) -> dict[str, Any]:
    """The body of the object, ready for the API.

    The version's role is not part of it: KServe copies labels and annotations into the template of the pods,
    so every change of a role would restart them.

    Raises:
        DeployError: The version's id or the Bento's tag cannot name objects on a cluster.
    """
    from kserve import V1beta1InferenceService, V1beta1InferenceServiceSpec
    from kubernetes.client import ApiClient, V1ObjectMeta

    name = object_name(version.id)
    metadata = V1ObjectMeta(
        name=name,
        namespace=namespace,
        labels={
            "app.kubernetes.io/name": "immr-search",
            "app.kubernetes.io/instance": name,
            "app.kubernetes.io/part-of": "immr",
            "app.kubernetes.io/component": "search",
            "networking.kserve.io/visibility": "cluster-local",  # shoppers come through the gateway only
            MANAGED_BY[0]: MANAGED_BY[1],
            **OUTSIDE_MESH,
        },
        annotations={
            "serving.kserve.io/deploymentMode": "Standard",
            VERSION_ID: version.id,
            BENTO: bento,
            **({_AUTOSCALER: "keda"} if shape.in_flight_target else {}),
        },
    )
    body: dict[str, Any] = ApiClient().sanitize_for_serialization(
        V1beta1InferenceService(
            api_version=f"{GROUP}/{VERSION}",
            kind="InferenceService",
            metadata=metadata,
            spec=V1beta1InferenceServiceSpec(predictor=_predictor(name, bento, namespace, shape)),
        )
    )
    return body


def _predictor(name: str, bento: str, namespace: str, shape: ServingShape) -> Any:
    from kserve import V1beta1ModelFormat, V1beta1ModelSpec, V1beta1PredictorSpec
    from kubernetes import client

    return V1beta1PredictorSpec(
        service_account_name=shape.service_account,
        automount_service_account_token=False,
        enable_service_links=False,
        security_context=restricted_pod(),
        min_replicas=shape.min_replicas,
        max_replicas=shape.max_replicas,
        **_scaling(name, namespace, shape),
        termination_grace_period_seconds=45,
        topology_spread_constraints=[
            client.V1TopologySpreadConstraint(
                max_skew=1,
                topology_key="kubernetes.io/hostname",
                when_unsatisfiable="ScheduleAnyway",
                label_selector=client.V1LabelSelector(match_labels={f"{GROUP}/inferenceservice": name}),
            )
        ],
        model=V1beta1ModelSpec(
            model_format=V1beta1ModelFormat(name=MODEL_FORMAT),
            protocol_version="v2",
            runtime=shape.runtime,
            storage_uri=storage_uri(shape.storage, bento),
            resources=client.V1ResourceRequirements(
                requests={"cpu": shape.cpu, "memory": shape.memory}, limits={"memory": shape.memory}
            ),
        ),
    )


def _scaling(name: str, namespace: str, shape: ServingShape) -> dict[str, Any]:
    """The autoscaler: KServe's by CPU, or KEDA by searches in progress."""
    from kserve import (
        V1beta1AutoScalingSpec,
        V1beta1ExternalMetrics,
        V1beta1ExternalMetricSource,
        V1beta1MetricsSpec,
        V1beta1MetricTarget,
    )

    if not shape.in_flight_target:
        return {"scale_metric": "cpu", "scale_target": shape.cpu_target}
    target = str(shape.in_flight_target)
    # PodMonitor `search` gives the series the version's name; averaged, because a scrape sees one moment
    series = f'immr_searches_in_progress{{namespace="{namespace}", app_kubernetes_io_instance="{name}"}}'
    load = f"sum(avg_over_time({series}[1m]))"
    source = V1beta1ExternalMetricSource(
        metric=V1beta1ExternalMetrics(
            backend="prometheus",
            server_address=shape.prometheus,
            # KEDA takes an empty answer for 0, and KServe cannot tell it otherwise: the last one of the hour instead
            query=f"{load} or last_over_time({load}[1h:1m])",
        ),
        # KServe passes `value` to KEDA, and its webhook wants the field of the type as well
        target=V1beta1MetricTarget(type="AverageValue", value=target, average_value=target),
    )
    return {
        "auto_scaling": V1beta1AutoScalingSpec(metrics=[V1beta1MetricsSpec(type="External", external=source)])
    }


def keep_autoscaler(body: dict[str, Any], existing: Mapping[str, Any]) -> bool:
    """Leave out of the object how it scales if the existing one is scaled by another autoscaler.

    KServe creates the autoscaler of the new class without deleting that of the old one, and rejects an object with
    the fields of both.

    Returns:
        Whether the autoscaler differs.
    """
    notes = body["metadata"]["annotations"]
    if notes.get(_AUTOSCALER) == existing["metadata"].get("annotations", {}).get(_AUTOSCALER):
        return False
    notes.pop(_AUTOSCALER, None)
    for name in _METRICS:
        body["spec"]["predictor"].pop(name, None)
    return True


def mark_content(body: dict[str, Any]) -> str:
    """Annotate the object with a hash of what it wants its pods to be, its Bento included; returns the hash.

    KServe copies the annotation into the pods, which thus show whether they are up to date. The object's status
    does not: its `observedGeneration` is that of the Deployment, and it stays ready during a rollout.
    """
    predictor = {name: value for name, value in body["spec"]["predictor"].items() if name not in _SCALING}
    notes = body["metadata"]["annotations"]
    bento = [notes[BENTO_CONTENT]] if BENTO_CONTENT in notes else []
    content = fingerprint.of_values(predictor, *bento)[:16]
    notes[CONTENT] = content
    return content


def object_name(version_id: str) -> str:
    """The name of a version's InferenceService: its id in lower case.

    Raises:
        DeployError: The id is not a valid host name.
    """
    name = version_id.lower()
    if not _NAME.fullmatch(name):
        raise DeployError(
            f"{version_id!r} cannot name an InferenceService: choose an IMMR_MODEL_NAME that starts with a "
            "letter and has at most 35 letters, digits and '-'"
        )
    return name
