"""What the pods of a training job on a cluster look like; everything that is not the training itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from immr.cluster.api import shape_from_query


@dataclass(frozen=True)
class JobShape:
    """Pods of a PyTorchJob; each field can be given in the URL, `kubeflow://immr?gpus=1&queue=team`."""

    image: str = "immr/pipeline-python:0.1.0"
    claim: str = "immr-home"  # PersistentVolumeClaim (ReadWriteMany) that is mounted at IMMR_HOME
    service_account: str = "immr-training"
    processes_per_pod: int = 1
    elastic_min_pods: int = 0  # go on with as few; 0: all or none
    cpu: str = "1"
    memory: str = "3Gi"
    gpus: int = 0  # per pod
    shared_memory: str = "512Mi"  # /dev/shm: what data loaders and NCCL pass on
    run: str = ""  # whose job it is, as a label: what a pipeline run leaves behind is found by it
    queue: str = ""  # Kueue LocalQueue; empty: not queued
    node_selector: str = ""  # "pool=gpu,zone=a"
    tolerations: str = ""  # keys of taints that are borne, "nvidia.com/gpu,spot"
    backoff_limit: int = 2  # restarts of pods before the job has failed
    active_deadline_s: int = 24 * 3600
    keep_finished_s: int = 3600  # then the cluster deletes the finished job and its pods
    pending_grace_s: int = 45  # how long a pod may be missing, unschedulable or without its image
    output_grace_s: int = 60  # how long a file system on a network may take to show what the pods wrote

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> JobShape:
        """The defaults, changed by a URL's query.

        Raises:
            SettingsError: a name that is not known, or a number that is none.
        """
        return shape_from_query(cls, "IMMR_LAUNCH_URL", query)


def for_run(launch_url: str, run: str, gpus_per_process: int = 0) -> str:
    """A launch URL whose jobs belong to a pipeline run, with GPUs for each process where any are wanted."""
    parts = urlsplit(launch_url)
    if parts.scheme != "kubeflow":
        return launch_url
    query = dict(parse_qsl(parts.query)) | {"run": run}
    if gpus_per_process:
        query["gpus"] = str(gpus_per_process * JobShape.from_query(query).processes_per_pod)
    return urlunsplit(parts._replace(query=urlencode(query)))
