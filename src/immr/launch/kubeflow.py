"""Training on a cluster: a PyTorchJob, created once, waited for, and deleted when we are told to stop."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from immr.cluster.api import CALL_TIMEOUT_S, Kind, in_words, patiently
from immr.errors import TrainingError
from immr.launch.interruption import sigterm_raises
from immr.launch.job_shape import JobShape
from immr.launch.job_status import condition, is_ours, leader, useless
from immr.launch.launcher import TrainingJob
from immr.launch.pod_log import PodLog
from immr.launch.pod_troubles import Trouble, missing, troubles
from immr.launch.pytorchjob import (
    CONTAINER,
    CONTENT,
    GROUP,
    JOB_NAME_LABEL,
    MANAGED_BY,
    PLURAL,
    RUN,
    VERSION,
    pytorchjob,
)

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

_log = logging.getLogger(__name__)
_SHOWN_LINES = 20
_GONE_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Seen:
    """A trouble, and since when (`time.monotonic`) it has been there."""

    trouble: Trouble
    since_s: float


class KubeflowLauncher:
    """A `Launcher` over the training operator. The pods see what we see: the claim at IMMR_HOME."""

    def __init__(
        self,
        api: ApiClient,
        namespace: str,
        shape: JobShape,
        home: Path,
        environment: Mapping[str, str],
        poll_s: float = 10.0,
    ) -> None:
        """`environment` is given to the pods; pods are looked at every `poll_s`, the job is watched."""
        from kubernetes import client

        self._jobs = Kind(api, f"/apis/{GROUP}/{VERSION}", PLURAL, namespace)
        self._pods = Kind(api, "/api/v1", "pods", namespace)
        self._events = Kind(api, "/api/v1", "events", namespace)
        self._watched = client.CustomObjectsApi(api)
        self._core = client.CoreV1Api(api)
        self._namespace = namespace
        self._shape = shape
        self._home = home
        self._environment = dict(environment)
        self._poll_s = poll_s

    def run(self, job: TrainingJob) -> None:
        """Block until the PyTorchJob of that name is done; one that is there already is waited for.

        Ctrl-C and SIGTERM delete the job before they take their course here.

        Raises:
            TrainingError: it failed, cannot start, was deleted, or the API refuses; says why.
        """
        from kubernetes.client.exceptions import ApiException

        body = pytorchjob(job, self._namespace, self._shape, self._home, self._environment)
        try:
            with sigterm_raises():
                try:
                    self._create_or_adopt(job, body)
                    self._wait(job)
                except (KeyboardInterrupt, SystemExit):
                    self._delete_if_ours(job.name)
                    raise
        except (ApiException, OSError) as error:
            raise TrainingError(in_words(error, f"training {job.name} in {self._namespace}")) from error

    def _create_or_adopt(self, job: TrainingJob, body: dict[str, Any]) -> None:
        name, deadline = job.name, time.monotonic() + _GONE_TIMEOUT_S
        while True:
            if self._jobs.create(body) is not None:
                _log.info("created PyTorchJob %s in %s", name, self._namespace)
                return
            there = self._jobs.get(name)
            if there is None:  # it went between our two questions
                continue
            if not is_ours(there):
                raise TrainingError(
                    f"there is a PyTorchJob {name} in {self._namespace} that IMMR did not make: "
                    "delete it, or use another namespace"
                )
            going = "deletionTimestamp" in there["metadata"]
            why_not = useless(there, job)
            if not going and not why_not:
                self._adopt(there, body)
                return
            if not going:
                _log.info("PyTorchJob %s of an earlier try %s: making it anew", name, why_not)
                self._delete(name)
            if time.monotonic() > deadline:
                raise TrainingError(
                    f"PyTorchJob {name} does not go away: look at its finalizers and its pods' nodes"
                )
            time.sleep(min(1.0, self._poll_s))

    def stop(self, run: str) -> list[str]:
        """Delete the jobs of a pipeline run that have not ended; returns their names.

        Raises:
            TrainingError: the API refuses.
        """
        from kubernetes.client.exceptions import ApiException

        try:
            ours = self._jobs.select(labelSelector=f"{MANAGED_BY[0]}={MANAGED_BY[1]},{RUN}={run}")
            running = [
                one for one in ours if not condition(one, "Succeeded") and not condition(one, "Failed")
            ]
            for one in running:
                self._delete(one["metadata"]["name"])
        except (ApiException, OSError) as error:
            raise TrainingError(in_words(error, f"stopping the training of run {run}")) from error
        return [one["metadata"]["name"] for one in running]

    def _adopt(self, there: Mapping[str, Any], body: Mapping[str, Any]) -> None:
        metadata = there["metadata"]
        if run := body["metadata"]["labels"].get(RUN):
            self._jobs.patch(metadata["name"], {"metadata": {"labels": {RUN: run}}})
        _log.info("PyTorchJob %s is there already: waiting for it", metadata["name"])
        if metadata.get("annotations", {}).get(CONTENT) != body["metadata"]["annotations"][CONTENT]:
            _log.warning("it was made with other pods (image, size) than are wanted now; it keeps them")

    def _wait(self, job: TrainingJob) -> None:
        name, log = job.name, PodLog(self._core, self._namespace, CONTAINER)
        seen: dict[tuple[str, str], Seen] = {}
        while True:
            there = self._jobs.get(name)
            if there is None:
                raise TrainingError(f"PyTorchJob {name} was deleted while it was waited for: start again")
            pods = self._pods.select(labelSelector=f"{JOB_NAME_LABEL}={name}")
            if pod := leader(pods):
                log.ensure(pod)
            if condition(there, "Succeeded"):
                log.finish(5.0)
                self._check_output(job)
                return
            found = troubles(pods)
            if failed := condition(there, "Failed"):
                log.finish(5.0)
                seen |= {one.key: Seen(one, 0.0) for one in found}
                raise TrainingError(
                    self._failure(name, failed, pods, [one.trouble for one in seen.values()], log)
                )
            self._note(name, found + missing(there, len(pods), lambda: self._events_of(name)), seen)
            self._watch(name, there["metadata"]["resourceVersion"])

    def _check_output(self, job: TrainingJob) -> None:
        deadline = time.monotonic() + self._shape.output_grace_s
        while job.out is not None and not job.out.exists():
            if time.monotonic() < deadline:
                time.sleep(min(1.0, self._poll_s))
                continue
            raise TrainingError(
                f"PyTorchJob {job.name} succeeded, but there is nothing at {job.out}: is the claim "
                f"{self._shape.claim} of its pods the one that is mounted here, at {self._home}?"
            )

    def _events_of(self, name: str) -> list[dict[str, Any]]:
        return self._events.select(fieldSelector=f"involvedObject.name={name}")

    def _note(self, name: str, found: list[Trouble], seen: dict[tuple[str, str], Seen]) -> None:
        """Say what is new; give up where a pod has been stuck for longer than the grace."""
        now = time.monotonic()
        for trouble in found:
            if trouble.key not in seen:
                _log.warning("%s", trouble)
            since = seen[trouble.key].since_s if trouble.key in seen else now
            seen[trouble.key] = Seen(trouble, since)
            if trouble.stuck and now - since >= self._shape.pending_grace_s:
                self._delete(name)
                raise TrainingError(
                    f"training {name} cannot start: {trouble} (waited {self._shape.pending_grace_s} s; "
                    "pending_grace_s in IMMR_LAUNCH_URL is how long)"
                )
        for key in set(seen) - {trouble.key for trouble in found}:
            if seen[key].trouble.stuck:
                del seen[key]

    def _watch(self, name: str, version: str) -> None:
        """Until the job changes or `poll_s` have passed; a cut or expired watch is just an early end."""
        from kubernetes import watch
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        start = time.monotonic()
        try:
            for _ in watch.Watch().stream(
                self._watched.list_namespaced_custom_object,
                GROUP,
                VERSION,
                self._namespace,
                PLURAL,
                field_selector=f"metadata.name={name}",
                resource_version=version,
                timeout_seconds=max(1, round(self._poll_s)),
                _request_timeout=(5, self._poll_s + 5),
            ):
                return
        except (ApiException, HTTPError, OSError, ValueError) as error:
            # 410, a cut line, half an event: the next look asks anew, and it alone decides what is an error
            _log.debug("the watch ended: %s", error)
            time.sleep(max(0.0, min(1.0, self._poll_s) - (time.monotonic() - start)))

    def _failure(
        self,
        name: str,
        failed: Mapping[str, Any],
        pods: list[dict[str, Any]],
        seen: list[Trouble],
        log: PodLog,
    ) -> str:
        what = failed.get("message") or failed.get("reason") or "no reason given"
        reasons = "; ".join(dict.fromkeys(str(trouble) for trouble in seen if not trouble.stuck))
        blamed = next((trouble.pod for trouble in seen if not trouble.stuck), None) or leader(pods)
        lines = (self._last_lines(blamed) if blamed else []) or list(log.lines)[-_SHOWN_LINES:]
        own = [line.removeprefix("training error: ") for line in lines if line.startswith("training error: ")]
        said = own[0] if own else "its last lines were\n" + "\n".join(lines) if lines else "it left no log"
        return f"training {name} failed ({what}{'; ' + reasons if reasons else ''}): {said}"

    def _last_lines(self, pod: str) -> list[str]:
        from kubernetes.client.exceptions import ApiException

        try:
            text = patiently(
                lambda: self._core.read_namespaced_pod_log(
                    pod,
                    self._namespace,
                    container=CONTAINER,
                    tail_lines=_SHOWN_LINES,
                    _request_timeout=CALL_TIMEOUT_S,
                ),
                tries=3,  # a node that is gone has no log to wait for
            )
        except (ApiException, OSError):
            return []
        return str(text).splitlines()

    def _delete_if_ours(self, name: str) -> None:
        there = self._jobs.get(name)
        if there is not None and is_ours(there):
            _log.warning("told to stop: deleting PyTorchJob %s", name)
            self._delete(name)

    def _delete(self, name: str) -> None:
        # in the foreground: a new job of that name must not meet the pods of the old one
        self._jobs.delete(name, tries=3, propagationPolicy="Foreground")
