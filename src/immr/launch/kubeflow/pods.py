"""What the pods of a training job have in common, whichever operator runs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from immr import __version__
from immr.cluster.objects import MANAGED_BY, OUTSIDE_MESH, restricted_pod
from immr.errors import TrainingError
from immr.launch.kubeflow.job_shape import JobShape
from immr.launch.launcher import TrainingJob
from immr.machine.wording import counted

RUN = "immr.dev/run"
S3_SECRET = "immr-s3"
S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION")
_SCRATCH = "/tmp"


def number_of_pods(job: TrainingJob, shape: JobShape, home: Path) -> int:
    """How many pods the job fills.

    Raises:
        TrainingError: The job cannot run on a cluster.
    """
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
    if 0 < shape.gpus < shape.processes_per_pod:
        raise TrainingError(
            f"{shape.processes_per_pod} processes per pod do not fit on {counted(shape.gpus, 'GPU')}, because each "
            "needs one: set gpus in IMMR_LAUNCH_URL to processes_per_pod"
        )
    if shape.elastic_min_pods > pods:
        raise TrainingError(
            f"elastic_min_pods={shape.elastic_min_pods} is more than the {counted(pods, 'pod')} of this job: lower it"
        )
    return pods


def pod_labels(job: TrainingJob) -> dict[str, str]:
    """Labels of the job and its pods; NetworkPolicies select by them."""
    return {
        "app.kubernetes.io/name": "immr-training",
        "app.kubernetes.io/instance": job.name,
        "app.kubernetes.io/part-of": "immr",
        "app.kubernetes.io/component": "training",
        "app.kubernetes.io/version": __version__,
        MANAGED_BY[0]: MANAGED_BY[1],
    }


def job_labels(job: TrainingJob, shape: JobShape) -> dict[str, str]:
    """Labels of the job alone: those of its pods, its queue, and the pipeline run that owns it."""
    queue = {"kueue.x-k8s.io/queue-name": shape.queue} if shape.queue else {}
    return pod_labels(job) | queue | ({RUN: shape.run} if shape.run else {})


def pod_template(
    job: TrainingJob, shape: JobShape, home: Path, environment: Mapping[str, str], container: str
) -> Any:
    """The whole template, a `V1PodTemplateSpec`, whose only container has this name."""
    from kubernetes import client

    node_selector = _pairs(shape.node_selector)
    tolerations = [
        client.V1Toleration(key=key, operator="Exists") for key in shape.tolerations.split(",") if key
    ]
    spec = client.V1PodSpec(
        service_account_name=shape.service_account,
        automount_service_account_token=False,
        enable_service_links=False,
        security_context=restricted_pod(),
        node_selector=node_selector or None,
        tolerations=tolerations or None,
        containers=[_container(job, shape, home, environment, container)],
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
    topology = {"kueue.x-k8s.io/podset-preferred-topology": shape.topology} if shape.topology else None
    # a sidecar would keep the pod running after training
    metadata = client.V1ObjectMeta(labels=pod_labels(job) | OUTSIDE_MESH, annotations=topology)
    return client.V1PodTemplateSpec(metadata=metadata, spec=spec)


def _container(
    job: TrainingJob, shape: JobShape, home: Path, environment: Mapping[str, str], name: str
) -> Any:
    from kubernetes import client

    resources = {"cpu": shape.cpu, "memory": shape.memory}
    if shape.gpus:
        resources["nvidia.com/gpu"] = str(shape.gpus)
    limits = {resource: amount for resource, amount in resources.items() if resource != "cpu"}
    own = {
        "PYTHONUNBUFFERED": "1",
        "HOME": _SCRATCH,
        "OMP_NUM_THREADS": _threads(shape),
        "GLOO_SOCKET_IFNAME": "eth0",  # the pod's interface; otherwise gloo resolves the pod's host name
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # else a restarted elastic job finds dead members
    } | ({"NCCL_SOCKET_IFNAME": "eth0"} if shape.gpus else {})
    variables = {**environment, "IMMR_HOME": str(home), **own, **_pairs(shape.environment)}
    # torchrun takes nodes, rank and the master's address from the PET_* that the operator sets
    command = ["python", "-m", "torch.distributed.run", "-m", "immr.train", str(job.job_file.absolute())]
    return client.V1Container(
        name=name,
        image=shape.image,
        command=command,
        env=[
            *(client.V1EnvVar(name=key, value=value) for key, value in sorted(variables.items())),
            *(_s3_credentials(variables) if variables.get("IMMR_PIXELS_URL", "").startswith("s3:") else ()),
        ],
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


def _s3_credentials(variables: Mapping[str, str]) -> Iterator[Any]:
    """Variables from the Secret, unless they are set already."""
    from kubernetes import client

    for key in S3_KEYS:
        if key not in variables:
            source = client.V1SecretKeySelector(name=S3_SECRET, key=key, optional=True)
            yield client.V1EnvVar(name=key, value_from=client.V1EnvVarSource(secret_key_ref=source))


def _pairs(names_and_values: str) -> dict[str, str]:
    """From "name=value,name=value"."""
    return dict(pair.split("=", 1) for pair in names_and_values.split(",") if "=" in pair)


def _threads(shape: JobShape) -> str:
    whole = int(shape.cpu.removesuffix("m")) // 1000 if shape.cpu.endswith("m") else int(float(shape.cpu))
    return str(max(1, whole // shape.processes_per_pod))
