"""A TrainingJob as a PyTorchJob of Kubeflow's training operator 1.9. Nothing here calls the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from immr.cluster.objects import CONTENT
from immr.launch.kubeflow import pods
from immr.launch.kubeflow.job_kind import Object, started
from immr.launch.kubeflow.job_shape import JobShape
from immr.launch.launcher import TrainingJob
from immr.storage import fingerprint


class PyTorchJobs:
    """The `JobKind` of the training operator: a master and workers, or workers alone if the job is elastic."""

    name = "PyTorchJob"
    group, version, plural = "kubeflow.org", "v1", "pytorchjobs"
    pod_label = "training.kubeflow.org/job-name"
    container = "pytorch"  # the operator sets torchrun's environment only in a container with this name
    succeeded = "Succeeded"
    expires = True

    def body(
        self, job: TrainingJob, namespace: str, shape: JobShape, home: Path, environment: Mapping[str, str]
    ) -> dict[str, Any]:
        """See `JobKind.body`."""
        from kubeflow.training import models
        from kubernetes.client import ApiClient, V1ObjectMeta

        count = pods.number_of_pods(job, shape, home)
        spec = models.KubeflowOrgV1PyTorchJobSpec(
            elastic_policy=_elastic_policy(count, shape),
            nproc_per_node=str(shape.processes_per_pod),
            run_policy=models.KubeflowOrgV1RunPolicy(
                active_deadline_seconds=shape.active_deadline_s,
                # the operator adds up the restarts of all pods, and a crash restarts every one of them
                backoff_limit=shape.backoff_limit * count,
                clean_pod_policy="None",  # a crashed container's pod counts as running, and its log is needed
                ttl_seconds_after_finished=shape.keep_finished_s,
            ),
            pytorch_replica_specs={
                role: models.KubeflowOrgV1ReplicaSpec(
                    replicas=replicas,
                    restart_policy="OnFailure",
                    template=pods.pod_template(job, shape, home, environment, self.container),
                )
                for role, replicas in _replicas(count, shape).items()
            },
        )
        body: dict[str, Any] = ApiClient().sanitize_for_serialization(
            models.KubeflowOrgV1PyTorchJob(
                api_version=f"{self.group}/{self.version}",
                kind=self.name,
                metadata=V1ObjectMeta(name=job.name, namespace=namespace, labels=pods.job_labels(job, shape)),
                spec=spec,
            )
        )
        body["metadata"]["annotations"] = {CONTENT: fingerprint.of_values(body["spec"])[:16]}
        return body

    def pods_wanted(self, existing: Object) -> int:
        """See `JobKind.pods_wanted`; the minimum of an elastic job."""
        spec = existing.get("spec", {})
        if spec.get("runPolicy", {}).get("suspend"):
            return 0
        replicas = sum(int(one.get("replicas", 1)) for one in spec.get("pytorchReplicaSpecs", {}).values())
        return int(spec.get("elasticPolicy", {}).get("minReplicas", replicas))

    def leader(self, pods: Sequence[Object]) -> str | None:
        """See `JobKind.leader`: the master, or worker 0 of a job without a master."""
        names = sorted(str(pod["metadata"]["name"]) for pod in started(pods))
        return next((name for name in names if name.endswith(("-master-0", "-worker-0"))), None)


def _replicas(count: int, shape: JobShape) -> dict[str, int]:
    if shape.elastic_min_pods:  # workers rendezvous at worker 0; a master would fix their number
        return {"Worker": count}
    return {"Master": 1} | ({"Worker": count - 1} if count > 1 else {})


def _elastic_policy(count: int, shape: JobShape) -> Any:
    if not shape.elastic_min_pods:
        return None
    from kubeflow.training import models

    return models.KubeflowOrgV1ElasticPolicy(
        min_replicas=shape.elastic_min_pods,
        max_replicas=count,
        max_restarts=shape.backoff_limit,
        rdzv_backend="c10d",
    )
