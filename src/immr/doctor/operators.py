"""The operators that a cluster needs, in the versions that IMMR uses."""

from __future__ import annotations

from dataclasses import dataclass, replace

from immr.launch.kubeflow.trainjob import TrainJobs
from immr.settings import Settings, query_of


@dataclass(frozen=True)
class Operator:
    """API kinds of a third-party operator, in the version that IMMR uses."""

    name: str
    group: str
    version: str
    plurals: tuple[str, ...]
    needed: bool = True
    remedy: str = ""  # empty: install it


OPERATORS = (
    Operator("KServe 0.20", "serving.kserve.io", "v1beta1", ("inferenceservices",)),
    Operator("KServe 0.20", "serving.kserve.io", "v1alpha1", ("servingruntimes",)),
    Operator("Kubeflow Pipelines 2.17", "argoproj.io", "v1alpha1", ("workflows",)),
    Operator("Gateway API", "gateway.networking.k8s.io", "v1", ("gateways", "httproutes")),
    Operator(
        "Prometheus operator",
        "monitoring.coreos.com",
        "v1",
        ("servicemonitors", "podmonitors", "prometheusrules"),
    ),
    Operator("KEDA, for in_flight_target", "keda.sh", "v1alpha1", ("scaledobjects",), needed=False),
    # its definitions outlive it: only a running KEDA answers here
    Operator(
        "KEDA's metrics",
        "external.metrics.k8s.io",
        "v1beta1",
        ("externalmetrics",),
        needed=False,
        remedy="check that KEDA runs: kubectl get apiservice v1beta1.external.metrics.k8s.io",
    ),
    Operator("JobSet, for TrainJobs", "jobset.x-k8s.io", "v1alpha2", ("jobsets",), needed=False),
    Operator("metrics-server, for autoscaling", "metrics.k8s.io", "v1beta1", ("pods",), needed=False),
    Operator("Strimzi", "kafka.strimzi.io", "v1", ("kafkas", "kafkanodepools"), needed=False),
    Operator("Spark operator", "sparkoperator.k8s.io", "v1beta2", ("sparkapplications",), needed=False),
    Operator("Kueue", "kueue.x-k8s.io", "v1beta1", ("localqueues",), needed=False),
)


def as_used(operator: Operator, settings: Settings, training: str) -> Operator:
    """The operator, needed if the settings or the operator of training use it."""
    deploying = query_of(settings.deploy_url)
    scales_by_searches = deploying.get("in_flight_target", "0") != "0"
    used = {
        "keda.sh": scales_by_searches,
        "external.metrics.k8s.io": scales_by_searches,
        "jobset.x-k8s.io": training.startswith(TrainJobs.name),
    }
    return replace(operator, needed=operator.needed or used.get(operator.group, False))
