"""The faults of a chaos run, as commands of kubectl or of this machine, and when they happen."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LASTS_S = 30.0
"""How long a fault with an `undo` lasts."""
DATA = "/immr/data/shop"
AT_KUBEFLOW = ("--endpoint", "http://ml-pipeline.kubeflow:8888")
_FILL = (  # a volume without a limit of its own, as kind's, would fill its node
    "import os, shutil, sys; free = shutil.disk_usage('/immr/events').free; "
    "free < 4 << 30 or sys.exit('the volume has the size of its disk'); "
    "os.posix_fallocate(os.open('/immr/events/fill', os.O_CREAT | os.O_WRONLY), 0, free)"
)
_EMPTY = "import pathlib; pathlib.Path('/immr/events/fill').unlink(missing_ok=True)"


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        name: For the table.
        command: Arguments of kubectl. `{pod}` and `{node}` become a pod that `selector` matches, and its node.
        undo: Arguments that end it after `LASTS_S`; empty if Kubernetes ends it.
        selector: Label selector of the pods that it concerns; without such a pod the fault is skipped.
        namespace: Of the pods and commands; empty for IMMR's.
        here: The commands are lines for this machine's shell instead of kubectl's arguments.
        deployment: Without this Deployment in `namespace` the fault is skipped.
    """

    name: str
    command: tuple[str, ...]
    undo: tuple[str, ...] = ()
    selector: str = ""
    namespace: str = ""
    here: bool = False
    deployment: str = ""


PODS: Mapping[str, str] = {
    "gateway": "app.kubernetes.io/name=immr-gateway",
    "version": "app.kubernetes.io/name=immr-search",
    "page": "app.kubernetes.io/name=immr-page",
    "MLflow": "app.kubernetes.io/name=mlflow",
    "PostgreSQL": "app.kubernetes.io/name=immr-postgres",
    "Redis": "app.kubernetes.io/name=redis",
    "Qdrant": "app.kubernetes.io/name=qdrant",
    "step": "pipelines.kubeflow.org/v2_component=true,app.kubernetes.io/name!=immr-tools",
    "training pod": "app.kubernetes.io/name=immr-training",
}
TOOLS = "app.kubernetes.io/name=immr-tools"
OPERATORS: Mapping[str, tuple[str, str]] = {  # namespace and Deployment
    "KServe": ("kserve", "kserve-controller-manager"),
    "training operator": ("kubeflow", "training-operator"),
    "Trainer": ("kubeflow-system", "kubeflow-trainer-controller-manager"),
    "JobSet": ("kubeflow-system", "jobset-controller-manager"),
    "workflow controller": ("kubeflow", "workflow-controller"),
}


def _killed(what: str) -> Fault:
    return Fault(f"{what} killed", ("delete", "pod", "{pod}", "--wait=false", "--grace-period=0", "--force"),
                 selector=PODS[what])  # fmt: skip


def _stopped(operator: str) -> Fault:
    namespace, name = OPERATORS[operator]
    scale = ("scale", "deployment", name)
    return Fault(
        f"{operator} stopped",
        (*scale, "--replicas=0"),
        (*scale, "--replicas=1"),
        namespace=namespace,
        deployment=name,
    )


FAULTS: tuple[Fault, ...] = (
    *map(_killed, PODS),
    *map(_stopped, OPERATORS),
    Fault("gateways rolled", ("rollout", "restart", "statefulset/gateway")),
    Fault("page rolled", ("rollout", "restart", "deployment/page")),
    Fault(  # KServe undoes `rollout restart` of its Deployments
        "versions rolled",
        ("annotate", "inferenceservice", "--selector", PODS["version"], "immr.dev/restarted-at=chaos"),
        ("annotate", "inferenceservice", "--selector", PODS["version"], "immr.dev/restarted-at-"),
    ),
    Fault(
        "refresh",
        ("exec", "{pod}", "--", "python", "-m", "pipelines", "run", DATA, "--on-cluster", *AT_KUBEFLOW),
        selector=TOOLS,
    ),
    Fault(
        "champion deployed again",
        ("exec", "{pod}", "--", "immr", "deploy", "--model", "champion"),
        selector=TOOLS,
    ),
    Fault(
        "bad image of a gateway",
        ("set", "image", "statefulset/gateway", "gateway=immr/gateway:there-is-none"),
        ("rollout", "undo", "statefulset/gateway"),
    ),
    Fault(
        "events' volume full",
        ("exec", "{pod}", "--", "python", "-c", _FILL),
        ("exec", "{pod}", "--", "python", "-c", _EMPTY),
        PODS["gateway"],
    ),
    Fault(
        "node drained",
        ("drain", "{node}", "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=25s"),
        ("uncordon", "{node}"),
        PODS["version"],
    ),
)


def api_server_cut(cut: str, restore: str) -> Fault:
    """The API server is cut off by a command of this machine, since it cannot be asked to cut itself off."""
    return Fault("API server cut off", (cut,), (restore,), here=True)


def schedule(faults: Sequence[Fault], minutes: float, every_s: float, seed: int) -> list[tuple[float, Fault]]:
    """When which fault happens, in seconds from the start: each once before any comes again.

    The last `every_s` are quiet, so that the last fault can end.
    """
    generator = random.Random(seed)
    count = max(0, int(minutes * 60 / every_s) - 1)
    drawn: list[Fault] = []
    while len(drawn) < count:
        drawn += generator.sample(list(faults), len(faults))
    return [(every_s * (number + 1), fault) for number, fault in enumerate(drawn[:count])]
