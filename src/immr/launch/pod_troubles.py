"""What is wrong with a job's pods, read from their status and from events (JSON as the API gives it)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_NO_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName")
_NO_CONTAINER = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_NO_POD, _NO_OPERATOR = "FailedCreatePod", "NotCreated"
_REMEDIES = {
    _NO_POD: "a restricted namespace, a quota or an admission webhook refuses them (docs/kubernetes.md)",
    _NO_OPERATOR: "does the training operator run, and does it watch this namespace?",
    "Unschedulable": "add nodes, or ask for less (cpu, memory, gpus in IMMR_LAUNCH_URL)",
    "OOMKilled": "give more memory (memory= in IMMR_LAUNCH_URL), or take a smaller batch",
} | dict.fromkeys(_NO_IMAGE, "push the image, or name another (image= in IMMR_LAUNCH_URL)")


@dataclass(frozen=True)
class Trouble:
    """A pod that does not do its work. One that is stuck never will unless someone does something."""

    pod: str
    reason: str
    message: str
    stuck: bool

    @property
    def key(self) -> tuple[str, str]:
        """The same trouble has the same key, also where its message counts or its back-off grows."""
        return self.pod, "image" if self.reason in _NO_IMAGE else self.reason

    def __str__(self) -> str:
        remedy = _REMEDIES.get(self.reason)
        said = f": {self.message}" if self.message else ""
        return f"pod {self.pod} is {self.reason}{said}" + (f"; {remedy}" if remedy else "")


def troubles(pods: Sequence[Mapping[str, Any]]) -> list[Trouble]:
    """Everything that is wrong with these pods now, or was with a container that was restarted."""
    return [trouble for pod in pods for trouble in _of(pod)]


def missing(
    job: Mapping[str, Any], pods: int, events: Callable[[], Sequence[Mapping[str, Any]]]
) -> list[Trouble]:
    """Pods that a job should have and has not, and what its events say of them; none while it is queued.

    Args:
        job: as the API gives it.
        pods: how many there are.
        events: asks for the job's events; only asked where pods are missing.
    """
    spec = job.get("spec", {})
    if spec.get("runPolicy", {}).get("suspend"):
        return []
    wanted = sum(int(one.get("replicas", 1)) for one in spec.get("pytorchReplicaSpecs", {}).values())
    if pods >= spec.get("elasticPolicy", {}).get("minReplicas", wanted):
        return []
    name = f"of {job['metadata']['name']}"
    said = [one for one in events() if str(one.get("reason")).startswith("FailedCreate")]
    if said:
        return [Trouble(name, _NO_POD, said[-1].get("message", ""), stuck=True)]
    return [Trouble(name, _NO_OPERATOR, f"{pods} of {wanted} pods are there", stuck=True)]


def _of(pod: Mapping[str, Any]) -> Iterator[Trouble]:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    if status.get("phase") == "Failed" and status.get("reason"):  # Evicted, NodeLost, …
        yield Trouble(name, status["reason"], status.get("message", ""), stuck=False)
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
            yield Trouble(name, "Unschedulable", condition.get("message", ""), stuck=True)
    for container in status.get("initContainerStatuses", []) + status.get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting", {})
        if waiting.get("reason") in _NO_IMAGE + _NO_CONTAINER:
            yield Trouble(name, waiting["reason"], waiting.get("message", ""), stuck=True)
        for state in ("state", "lastState"):
            ended = container.get(state, {}).get("terminated")
            if ended and ended.get("exitCode"):
                said = ended.get("message", "")
                yield Trouble(
                    name,
                    ended.get("reason", "Error"),
                    " ".join(filter(None, [said, f"exit code {ended['exitCode']}"])),
                    stuck=False,
                )
