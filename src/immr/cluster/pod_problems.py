"""What is wrong with pods, read from their status and their events (JSON as the API returns it)."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

log = logging.getLogger(__name__)

_NO_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName")
_NO_CONTAINER = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_NO_VOLUME = ("FailedMount", "FailedAttachVolume")
CRASH_LOOP = "CrashLoopBackOff"
NOT_CREATED = "NotCreated"
NOT_SCALED = "NotScaled"
_NO_NODE = "Unschedulable"
RECONCILE_FAILED, INVALID_SPEC = "ReconcileFailed", "InvalidSpec"  # reasons in an InferenceService's status
_NO_POD = ("FailedCreate", "FailedCreatePod")  # of a ReplicaSet or Job; of the training operator
_NO_JOB = (  # of Kubeflow Trainer; of JobSet
    "TrainJobResourcesCreationFailed",
    "JobCreationFailed",
    "HeadlessServiceCreationFailed",
)
# operators and autoscalers take a moment, so a missing pod is worth a warning only after this
_CREATED_WITHIN_S = {NOT_CREATED: 10.0, NOT_SCALED: 30.0}
_REMEDIES = {
    NOT_CREATED: "is the operator running, and does it watch this namespace?",
    NOT_SCALED: "is the autoscaler running (KEDA with in_flight_target, otherwise Kubernetes' own)?",
    _NO_NODE: "add nodes, or request less (cpu, memory, gpus in {variable})",
    "OOMKilled": "give it more memory (memory= in {variable})",
    CRASH_LOOP: "read its log: kubectl logs {pod} [--previous]",
    "Error": "read its log: kubectl logs {pod} [--previous]",
    **dict.fromkeys(
        (RECONCILE_FAILED, INVALID_SPEC),
        "correct or install what it names; `immr doctor --cluster` lists what is missing",
    ),
    **dict.fromkeys(
        _NO_JOB, "is JobSet installed and running, and does a quota or an admission webhook reject it?"
    ),
    **dict.fromkeys(_NO_POD, "a restricted namespace, a quota or an admission webhook rejects it"),
    **dict.fromkeys(_NO_IMAGE, "push the image, or correct its name"),
    **dict.fromkeys(_NO_VOLUME, "is the claim or Secret that it names in this namespace?"),
}


@dataclass(frozen=True)
class PodProblem:
    """Something that is wrong with a pod. A blocking one will not go away by itself."""

    pod: str
    reason: str
    message: str
    blocks: bool
    variable: str = ""  # the setting that the remedy names

    @property
    def key(self) -> tuple[str, str]:
        """Equal for the same problem, even if its message changes (an attempt counter, a growing back-off)."""
        return self.pod, "image" if self.reason in _NO_IMAGE else self.reason

    def __str__(self) -> str:
        remedy = _REMEDIES.get(self.reason, "").format(pod=self.pod, variable=self.variable)
        message = f": {self.message}" if self.message else ""
        return f"pod {self.pod} is {self.reason}{message}" + (f"; {remedy}" if remedy else "")


class Patience(Protocol):
    """How long problems may last, from the settings."""

    @property
    def pending_grace_s(self) -> int:
        """Of all problems but one."""

    @property
    def node_grace_s(self) -> int:
        """Of a pod that no node has room for: an autoscaler may add one."""


class ProblemWatch:
    """Warns of each problem once, and reports a blocking one that has lasted longer than it may."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._since: dict[tuple[str, str], float] = {}
        self._warned: set[tuple[str, str]] = set()
        self.known: dict[tuple[str, str], PodProblem] = {}

    def update(self, current: Sequence[PodProblem]) -> PodProblem | None:
        """Record the current problems; returns one that has blocked for the whole grace period, if any."""
        now = time.monotonic()
        for problem in current:
            since = self._since.setdefault(problem.key, now)
            self.known[problem.key] = problem
            early = now - since < _CREATED_WITHIN_S.get(problem.reason, 0.0)
            if problem.key not in self._warned and not early:
                self._warned.add(problem.key)
                log.warning("%s", problem)
            if problem.blocks and now - since >= self._grace(problem)[1]:
                return problem
        for key in set(self.known) - {problem.key for problem in current}:
            if self.known[key].blocks:
                del self.known[key], self._since[key]
        return None

    def waited(self, problem: PodProblem) -> str:
        """How long a problem may last, with the setting, for messages."""
        setting, seconds = self._grace(problem)
        return f"waited {seconds} s, {setting} in {problem.variable}"

    def _grace(self, problem: PodProblem) -> tuple[str, int]:
        if problem.reason == _NO_NODE:
            return "node_grace_s", self._patience.node_grace_s
        return "pending_grace_s", self._patience.pending_grace_s


def problems(
    pods: Sequence[Mapping[str, Any]], variable: str, crash_loop_blocks: bool = False
) -> list[PodProblem]:
    """Problems of these pods, including those of containers that have been restarted.

    Args:
        pods: As the API returns them.
        variable: The setting that remedies name, for example IMMR_LAUNCH_URL.
        crash_loop_blocks: Whether a container that keeps crashing is a blocking problem. It is for a service;
            a training operator counts restarts itself.
    """
    return [problem for pod in pods for problem in _of_pod(pod, variable, crash_loop_blocks)]


def problems_in_events(
    events: Sequence[Mapping[str, Any]], pods: Sequence[Mapping[str, Any]], owner: str, variable: str
) -> list[PodProblem]:
    """Problems reported by events: pods that could not be created, and volumes that could not be mounted.

    Args:
        events: Warnings in the namespace, as the API returns them.
        pods: The pods that exist. Only a pod that is still pending can have a blocking volume.
        owner: Only events about objects whose names start with this are considered.
        variable: The setting that remedies name.
    """
    pending = {pod["metadata"]["name"] for pod in pods if pod.get("status", {}).get("phase") == "Pending"}
    reported = []
    for event in events:
        about, reason = str(event.get("involvedObject", {}).get("name", "")), str(event.get("reason", ""))
        if reason in _NO_POD + _NO_JOB and about.startswith(owner) and not pods:
            reported.append(PodProblem(f"of {owner}", reason, event.get("message", ""), True, variable))
        if reason in _NO_VOLUME and about in pending:
            reported.append(PodProblem(about, reason, event.get("message", ""), True, variable))
    return reported


def _of_pod(pod: Mapping[str, Any], variable: str, crash_loop_blocks: bool) -> Iterator[PodProblem]:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    if status.get("phase") == "Failed" and status.get("reason"):  # Evicted, NodeLost, …
        yield PodProblem(name, status["reason"], status.get("message", ""), False, variable)
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition.get("reason") == _NO_NODE:
            yield PodProblem(name, _NO_NODE, condition.get("message", ""), True, variable)
    for container in status.get("initContainerStatuses", []) + status.get("containerStatuses", []):
        yield from _of_container(name, container, variable, crash_loop_blocks)


def _of_container(
    pod: str, container: Mapping[str, Any], variable: str, crash_loop_blocks: bool
) -> Iterator[PodProblem]:
    waiting = container.get("state", {}).get("waiting", {})
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in _NO_IMAGE + _NO_CONTAINER:
        yield PodProblem(pod, reason, message, True, variable)
    restarts = int(container.get("restartCount", 0)) > 1 and not container.get("ready")
    crashing = crash_loop_blocks and (reason == CRASH_LOOP or restarts)
    ended = False
    for state in ("state", "lastState"):
        last = container.get(state, {}).get("terminated")
        if last and last.get("exitCode"):
            ended = True
            text = " ".join(filter(None, [last.get("message", ""), f"exit code {last['exitCode']}"]))
            yield PodProblem(pod, last.get("reason", "Error"), text, crashing, variable)
    if crashing and not ended:
        yield PodProblem(pod, CRASH_LOOP, message, True, variable)
