"""What differs between the operators that run training jobs: PyTorchJob (v1) and TrainJob (Trainer v2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from immr.launch.kubeflow.job_shape import JobShape
from immr.launch.launcher import TrainingJob

Object = Mapping[str, Any]
"""An object as the API returns it."""


class JobKind(Protocol):
    """A kind of object that an operator turns into training pods. Nothing here calls the API."""

    name: str  # "PyTorchJob"
    group: str
    version: str
    plural: str
    pod_label: str  # the operator labels each pod with the job's name under this key
    container: str  # of the training container
    succeeded: str  # the condition of a job that has ended well; `Failed` is the other end
    expires: bool  # whether the cluster deletes a finished job after `keep_finished_s`

    def body(
        self, job: TrainingJob, namespace: str, shape: JobShape, home: Path, environment: Mapping[str, str]
    ) -> dict[str, Any]:
        """The object, ready for the API.

        Args:
            job: Its file must be below `home`.
            namespace: Where it runs.
            shape: Image, resources, restarts and deadlines of its pods.
            home: IMMR_HOME, where every pod mounts the claim.
            environment: IMMR_* for the pods, in addition to the job's file.

        Raises:
            TrainingError: The job cannot run on a cluster, or this kind cannot do what the shape wants.
        """

    def pods_wanted(self, existing: Object) -> int:
        """How many pods the job must have now: 0 while Kueue holds it."""

    def leader(self, pods: Sequence[Object]) -> str | None:
        """The pod whose log is shown, that of rank 0; None before it runs."""


def started(pods: Sequence[Object]) -> list[Object]:
    """The pods that are not waiting for a node, an image or a volume, oldest first."""
    running = [pod for pod in pods if pod.get("status", {}).get("phase") not in (None, "Pending")]
    return sorted(running, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
