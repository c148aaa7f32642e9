"""Which operator runs training on a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immr.cluster.api import served_kinds
from immr.errors import SettingsError
from immr.launch.kubeflow.job_kind import JobKind
from immr.launch.kubeflow.pytorchjob import PyTorchJobs
from immr.launch.kubeflow.trainjob import TrainJobs

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

KINDS: tuple[JobKind, ...] = (PyTorchJobs(), TrainJobs())
"""In the order in which they are preferred if a cluster has both."""


def served(api: ApiClient) -> list[JobKind]:
    """The kinds of training job that the cluster has.

    Raises:
        ApiException: The API refused.
        OSError: The API does not answer.
    """
    return [kind for kind in KINDS if kind.plural in served_kinds(api, kind.group, kind.version)]


def choose(api: ApiClient, operator: str) -> JobKind:
    """The kind with this name (in lower case), or the first one that the cluster has.

    Raises:
        SettingsError: The name is unknown, or the cluster has no such operator.
        ApiException: The API refused.
        OSError: The API does not answer.
    """
    named = [kind for kind in KINDS if operator in ("", kind.name.lower())]
    if not named:
        known = ", ".join(kind.name.lower() for kind in KINDS)
        raise SettingsError(f"IMMR_LAUNCH_URL has operator={operator}: use one of {known}, or leave it out")
    if len(named) == 1:  # the API answers its first use
        return named[0]
    found = served(api)
    if not found:
        raise SettingsError(
            "this cluster has neither PyTorchJob (training operator 1.9) nor TrainJob (Kubeflow Trainer 2.3): "
            "install one of them"
        )
    return found[0]
