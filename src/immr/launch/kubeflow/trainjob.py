"""A TrainingJob as a TrainJob of Kubeflow Trainer 2.3. Nothing here calls the API.

A TrainJob names a TrainingRuntime (k8s/components/trainer), which holds what is the same for every job: the
security context, and how often a failed job starts over. The rest is in the TrainJob: what to run, and patches of
the runtime's pods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from immr.cluster.objects import CONTENT
from immr.errors import TrainingError
from immr.launch.kubeflow import pods
from immr.launch.kubeflow.job_kind import Object, started
from immr.launch.kubeflow.job_shape import JobShape
from immr.launch.launcher import TrainingJob
from immr.storage import fingerprint

RUNTIME = "immr-training"
_NODE = "node"  # Trainer's name for the replicated job and for its container
_MANAGER = "immr.dev/launcher"


class TrainJobs:
    """The `JobKind` of Trainer v2, whose pods are those of a JobSet with the job's name."""

    name = "TrainJob"
    group, version, plural = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
    pod_label = "jobset.sigs.k8s.io/jobset-name"
    container = _NODE
    succeeded = "Complete"
    expires = False

    def body(
        self, job: TrainingJob, namespace: str, shape: JobShape, home: Path, environment: Mapping[str, str]
    ) -> dict[str, Any]:
        """See `JobKind.body`."""
        from kubernetes.client import ApiClient

        _refuse_what_trainer_lacks(shape)
        count = pods.number_of_pods(job, shape, home)
        template = ApiClient().sanitize_for_serialization(
            pods.pod_template(job, shape, home, environment, self.container)
        )
        (container,) = template["spec"]["containers"]
        spec = {
            "runtimeRef": {"apiGroup": self.group, "kind": "TrainingRuntime", "name": RUNTIME},
            "activeDeadlineSeconds": shape.active_deadline_s,
            "trainer": {
                "numNodes": count,
                "numProcPerNode": shape.processes_per_pod,
                "image": container["image"],
                "command": container["command"],
                "env": container["env"],
                "resourcesPerNode": container["resources"],
            },
            "runtimePatches": [
                {"manager": _MANAGER, "trainingRuntimeSpec": {"template": {"spec": _patch(template)}}}
            ],
        }
        return {
            "apiVersion": f"{self.group}/{self.version}",
            "kind": self.name,
            "metadata": {
                "name": job.name,
                "namespace": namespace,
                "labels": pods.job_labels(job, shape),
                "annotations": {CONTENT: fingerprint.of_values(spec)[:16]},
            },
            "spec": spec,
        }

    def pods_wanted(self, existing: Object) -> int:
        """See `JobKind.pods_wanted`."""
        spec = existing.get("spec", {})
        return 0 if spec.get("suspend") else int(spec.get("trainer", {}).get("numNodes", 1))

    def leader(self, pods: Sequence[Object]) -> str | None:
        """See `JobKind.leader`; after a restart of the job, that of the newest attempt."""
        first = "batch.kubernetes.io/job-completion-index"
        names = [
            str(pod["metadata"]["name"])
            for pod in started(pods)
            if pod["metadata"].get("labels", {}).get(first) == "0"
        ]
        return names[-1] if names else None


def _patch(template: Mapping[str, Any]) -> dict[str, Any]:
    """What a TrainJob may change in the runtime's pods: a part of the template."""
    spec = template["spec"]
    (container,) = spec["containers"]
    pod = {name: spec[name] for name in ("serviceAccountName", "volumes", "nodeSelector", "tolerations")
           if name in spec}  # fmt: skip
    pod["containers"] = [{"name": container["name"], "volumeMounts": container["volumeMounts"]}]
    return {
        "replicatedJobs": [
            {
                "name": _NODE,
                "template": {"spec": {"template": {"metadata": template["metadata"], "spec": pod}}},
            }
        ]
    }


def _refuse_what_trainer_lacks(shape: JobShape) -> None:
    if shape.elastic_min_pods:
        raise TrainingError(
            "a TrainJob cannot be elastic: leave elastic_min_pods out of IMMR_LAUNCH_URL, or use operator=pytorchjob"
        )
    if shape.backoff_limit != JobShape().backoff_limit:
        raise TrainingError(
            "a TrainJob takes its restarts from its runtime: leave backoff_limit out of IMMR_LAUNCH_URL, and set "
            f"failurePolicy.maxRestarts in the TrainingRuntime {RUNTIME}"
        )
