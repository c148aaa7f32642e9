"""The pods of a training job on a cluster: image, resources, restarts, deadlines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from immr import __version__
from immr.cluster.objects import shape_from_query
from immr.settings import query_of


@dataclass(frozen=True)
class JobShape:
    """Pods of a training job. The URL can set each field: `kubeflow://immr?gpus=1&queue=team`."""

    image: str = f"immr/pipeline-python:{__version__}"
    claim: str = "immr-home"  # PersistentVolumeClaim (ReadWriteMany) mounted at IMMR_HOME
    service_account: str = "immr-training"
    processes_per_pod: int = 1
    elastic_min_pods: int = 0  # training continues while at least this many pods run; 0: it needs all of them
    cpu: str = "1"
    memory: str = "3Gi"
    gpus: int = 0  # per pod
    shared_memory: str = "512Mi"  # /dev/shm, used by data loaders and NCCL; counts towards the memory
    environment: str = ""  # of the processes: "NCCL_IB_HCA=mlx5,NCCL_DEBUG=WARN"
    operator: str = ""  # "pytorchjob" or "trainjob"; empty: the one that the cluster has, pytorchjob if both
    run: str = ""  # label: the pipeline run that owns the job
    queue: str = ""  # Kueue LocalQueue; empty: not queued
    topology: str = ""  # level of Kueue's topology that should hold all pods: "cloud.provider.com/rack"
    node_selector: str = ""  # "pool=gpu,zone=a"
    tolerations: str = ""  # keys of tolerated taints: "nvidia.com/gpu,spot"
    backoff_limit: int = 2  # restarts of the whole job before it counts as failed
    active_deadline_s: int = 24 * 3600
    keep_finished_s: int = 3600  # the cluster deletes a finished job and its pods after this
    pending_grace_s: int = 45  # how long a pod may be missing, or without image or volume
    node_grace_s: int = 45  # how long it may wait for a node with room
    output_grace_s: int = 60  # how long a network file system may take to show what the pods wrote

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> JobShape:
        """The defaults, overridden by a URL's query.

        Raises:
            SettingsError: A name is unknown, or a value is not a whole number where one is expected.
        """
        return shape_from_query(cls, "IMMR_LAUNCH_URL", query)


def for_run(launch_url: str, run: str, gpus_per_process: int = 0) -> str:
    """A launch URL whose jobs belong to a pipeline run; `gpus_per_process` overrides the URL's GPUs unless 0."""
    parts = urlsplit(launch_url)
    if parts.scheme != "kubeflow":
        return launch_url
    query = query_of(launch_url) | {"run": run}
    if gpus_per_process:
        query["gpus"] = str(gpus_per_process * JobShape.from_query(query).processes_per_pod)
    return urlunsplit(parts._replace(query=urlencode(query, quote_via=quote)))
