"""A TrainingJob as a PyTorchJob of Kubeflow's training operator. Nothing here calls the API."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from immr import __version__
from immr.cluster.objects import MANAGED_BY, restricted_pod
from immr.errors import TrainingError
from immr.launch.job_shape import JobShape
from immr.launch.launcher import TrainingJob
from immr.storage import fingerprint

GROUP, VERSION, PLURAL = "kubeflow.org", "v1", "pytorchjobs"
CONTAINER = "pytorch"  # the operator sets torchrun's environment only in a container with this name
JOB_NAME_LABEL = "training.kubeflow.org/job-name"
CONTENT = "immr.dev/content"
RUN = "immr.dev/run"
_SCRATCH = "/tmp"


def pytorchjob(
    job: TrainingJob, namespace: str, shape: JobShape, home: Path, environment: Mapping[str, str]
) -> dict[str, Any]:
    """The body of the object, ready for the API.

    Args:
        job: Its file must be below `home`.
        namespace: Where it runs.
        shape: Image, resources, restarts and deadlines of its pods.
        home: IMMR_HOME, where every pod mounts the claim.
        environment: IMMR_* for the pods, in addition to the job's file.

    Raises:
        TrainingError: The job cannot run on a cluster.
    """
    from kubeflow.training import models
    from kubernetes.client import ApiClient, V1ObjectMeta

    pods = _pods(job, shape, home)
    spec = models.KubeflowOrgV1PyTorchJobSpec(
        elastic_policy=_elastic_policy(pods, shape),
        nproc_per_node=str(shape.processes_per_pod),
        run_policy=models.KubeflowOrgV1RunPolicy(
            active_deadline_seconds=shape.active_deadline_s,
            # the operator adds up the restarts of all pods, and a crash restarts every one of them
            backoff_limit=shape.backoff_limit * pods,
            clean_pod_policy="None",  # a crashed container's pod counts as running, and its log is needed
            ttl_seconds_after_finished=shape.keep_finished_s,
        ),
        pytorch_replica_specs={
            kind: models.KubeflowOrgV1ReplicaSpec(
                replicas=count,
                restart_policy="OnFailure",
                template=_template(job, shape, home, environment),
            )
            for kind, count in _replicas(pods, shape).items()
        },
    )
    labels = _labels(job) | ({"kueue.x-k8s.io/queue-name": shape.queue} if shape.queue else {})
    labels |= {RUN: shape.run} if shape.run else {}
    body: dict[str, Any] = ApiClient().sanitize_for_serialization(
        models.KubeflowOrgV1PyTorchJob(
            api_version=f"{GROUP}/{VERSION}",
            kind="PyTorchJob",
            metadata=V1ObjectMeta(name=job.name, namespace=namespace, labels=labels),
            spec=spec,
        )
    )
    body["metadata"]["annotations"] = {CONTENT: fingerprint.of_values(body["spec"])[:16]}
    return body


def _replicas(pods: int, shape: JobShape) -> dict[str, int]:
    if shape.elastic_min_pods:  # workers rendezvous at worker 0; a master would fix their number
        return {"Worker": pods}
    return {"Master": 1} | ({"Worker": pods - 1} if pods > 1 else {})


def _elastic_policy(pods: int, shape: JobShape) -> Any:
    if not shape.elastic_min_pods:
        return None
    from kubeflow.training import models

    return models.KubeflowOrgV1ElasticPolicy(
        min_replicas=shape.elastic_min_pods,
        max_replicas=pods,
        max_restarts=shape.backoff_limit,
        rdzv_backend="c10d",
    )


def _pods(job: TrainingJob, shape: JobShape, home: Path) -> int:
    if not job.job_file.absolute().is_relative_to(home):
        raise TrainingError(
            f"{job.job_file} is not below IMMR_HOME ({home}): the job's pods only see the claim "
            f"{shape.claim}, which is mounted there"
        )
    if not job.job_file.is_file():
        raise TrainingError(f"the job file {job.job_file} does not exist: write it with TrainJob.write")
    pods, rest = divmod(job.processes, shape.processes_per_pod)
    if rest or pods < 1:
        raise TrainingError(
            f"{job.processes} processes do not fill pods of {shape.processes_per_pod}: "
            "change the number of processes, or processes_per_pod in IMMR_LAUNCH_URL"
        )
    if shape.elastic_min_pods > pods:
        raise TrainingError(
            f"elastic_min_pods={shape.elastic_min_pods} is more than the {pods} pods of this job: lower it"
        )
    return pods


def _labels(job: TrainingJob) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "immr-training",
        "app.kubernetes.io/instance": job.name,
        "app.kubernetes.io/part-of": "immr",
        "app.kubernetes.io/component": "training",
        "app.kubernetes.io/version": __version__,
        MANAGED_BY[0]: MANAGED_BY[1],
    }


def _template(job: TrainingJob, shape: JobShape, home: Path, environment: Mapping[str, str]) -> Any:
    from kubernetes import client

    spec = client.V1PodSpec(
        service_account_name=shape.service_account,
        automount_service_account_token=False,
        enable_service_links=False,
        security_context=restricted_pod(),
        node_selector=dict(pair.split("=", 1) for pair in shape.node_selector.split(",") if "=" in pair)
        or None,
        tolerations=[
            client.V1Toleration(key=key, operator="Exists") for key in shape.tolerations.split(",") if key
        ]
        or None,
        containers=[_container(job, shape, home, environment)],
        volumes=[
            client.V1Volume(
                name="home",
                persistent_volume_claim=client.V1PersistentVolumeClaimVolumeSource(claim_name=shape.claim),
            ),
            client.V1Volume(
                name="shm",
                empty_dir=client.V1EmptyDirVolumeSource(medium="Memory", size_limit=shape.shared_memory),
            ),
            client.V1Volume(name="tmp", empty_dir=client.V1EmptyDirVolumeSource()),
        ],
    )
    # a service mesh's sidecar would keep the pod running after training
    metadata = client.V1ObjectMeta(labels=_labels(job), annotations={"sidecar.istio.io/inject": "false"})
    return client.V1PodTemplateSpec(metadata=metadata, spec=spec)


def _container(job: TrainingJob, shape: JobShape, home: Path, environment: Mapping[str, str]) -> Any:
    from kubernetes import client

    resources = {"cpu": shape.cpu, "memory": shape.memory}
    if shape.gpus:
        resources["nvidia.com/gpu"] = str(shape.gpus)
    limits = {name: amount for name, amount in resources.items() if name != "cpu"}
    own = {
        "PYTHONUNBUFFERED": "1",
        "HOME": _SCRATCH,
        "OMP_NUM_THREADS": _threads(shape),
        "GLOO_SOCKET_IFNAME": "eth0",  # the pod's interface; otherwise gloo resolves the pod's host name
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # else a restarted elastic job finds dead members
    } | ({"NCCL_SOCKET_IFNAME": "eth0"} if shape.gpus else {})
    variables = {**environment, "IMMR_HOME": str(home), **own}
    # torchrun takes nodes, rank and the master's address from the PET_* that the operator sets
    command = ["python", "-m", "torch.distributed.run", "-m", "immr.train", str(job.job_file.absolute())]
    return client.V1Container(
        name=CONTAINER,
        image=shape.image,
        command=command,
        env=[client.V1EnvVar(name=name, value=value) for name, value in sorted(variables.items())],
        resources=client.V1ResourceRequirements(requests=resources, limits=limits),
        security_context=client.V1SecurityContext(
            allow_privilege_escalation=False,
            read_only_root_filesystem=True,
            capabilities=client.V1Capabilities(drop=["ALL"]),
        ),
        volume_mounts=[
            client.V1VolumeMount(name="home", mount_path=str(home)),
            client.V1VolumeMount(name="shm", mount_path="/dev/shm"),
            client.V1VolumeMount(name="tmp", mount_path=_SCRATCH),
        ],
    )


def _threads(shape: JobShape) -> str:
    whole = int(shape.cpu.removesuffix("m")) // 1000 if shape.cpu.endswith("m") else int(float(shape.cpu))
    return str(max(1, whole // shape.processes_per_pod))
