"""Training on a cluster: a job that is created once, waited for, and deleted on interruption."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from immr.cluster.api import Kind
from immr.cluster.objects import CONTENT, MANAGED_BY, condition, is_ours
from immr.cluster.pod_problems import PodProblem, ProblemWatch, problems, problems_in_events
from immr.cluster.retries import CALL_TIMEOUT_S, LONG_PATIENCE_S, api_errors_as, retried
from immr.errors import TrainingError
from immr.launch.interruption import sigterm_raises
from immr.launch.kubeflow.job_kind import JobKind
from immr.launch.kubeflow.job_shape import JobShape
from immr.launch.kubeflow.job_status import ended, has_expired, not_created, reason_to_replace
from immr.launch.kubeflow.operators import choose
from immr.launch.kubeflow.pod_log import PodLog
from immr.launch.kubeflow.pods import RUN
from immr.launch.launcher import TrainingJob

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

log = logging.getLogger(__name__)
_VARIABLE = "IMMR_LAUNCH_URL"
_SHOWN_LINES = 20
_DELETED_WITHIN_S = 120.0
_OWN_ERROR = "training error: "


class KubeflowLauncher:
    """A `Launcher` for Kubeflow's operators. The pods see the same home: the claim at IMMR_HOME."""

    def __init__(
        self,
        api: ApiClient,
        namespace: str,
        shape: JobShape,
        home: Path,
        environment: Mapping[str, str],
        poll_s: float = 10.0,
    ) -> None:
        """Pods get `environment`. The job is watched, and its pods are listed every `poll_s`."""
        from kubernetes import client

        self._api = api
        self._pods = Kind(api, "/api/v1", "pods", namespace, LONG_PATIENCE_S)
        self._events = Kind(api, "/api/v1", "events", namespace, LONG_PATIENCE_S)
        self._watched = client.CustomObjectsApi(api)
        self._core = client.CoreV1Api(api)
        self._namespace = namespace
        self._shape = shape
        self._home = home
        self._environment = dict(environment)
        self._poll_s = poll_s

    @cached_property
    def _kind(self) -> JobKind:
        return choose(self._api, self._shape.operator)

    @cached_property
    def _jobs(self) -> Kind:
        return Kind(
            self._api, f"/apis/{self._kind.group}/{self._kind.version}", self._kind.plural, self._namespace
        )

    def run(self, job: TrainingJob) -> None:
        """Create the job's object unless it exists, and block until it is done.

        Ctrl-C and SIGTERM delete the object before they end this process.

        Raises:
            SettingsError: The cluster has no operator for it.
            TrainingError: The job failed, cannot start or was deleted, or the API refused.
        """
        with api_errors_as(TrainingError, f"training {job.name} in {self._namespace}"), sigterm_raises():
            body = self._kind.body(job, self._namespace, self._shape, self._home, self._environment)
            self._delete_expired()
            try:
                self._create_or_adopt(job, body)
                self._wait(job)
            except (KeyboardInterrupt, SystemExit):
                self._delete_if_ours(job.name)
                raise

    def stop(self, run: str) -> list[str]:
        """Delete the unfinished jobs of a pipeline run; returns their names.

        Raises:
            TrainingError: The API refused.
        """
        with api_errors_as(TrainingError, f"stopping the training of run {run}"):
            ours = self._jobs.select(labelSelector=f"{MANAGED_BY[0]}={MANAGED_BY[1]},{RUN}={run}")
            running = [job for job in ours if not ended(job, self._kind)]
            for job in running:
                self._delete(job["metadata"]["name"])
        return [job["metadata"]["name"] for job in running]

    def _create_or_adopt(self, job: TrainingJob, body: dict[str, Any]) -> None:
        name, deadline = job.name, time.monotonic() + _DELETED_WITHIN_S
        while True:
            if self._jobs.create(body) is not None:
                log.info("created %s %s in %s", self._kind.name, name, self._namespace)
                return
            existing = self._jobs.get(name)
            if existing is None:  # deleted between the two calls
                continue
            if not is_ours(existing):
                raise TrainingError(
                    f"namespace {self._namespace} has a {self._kind.name} {name} that IMMR did not create: "
                    "delete it, or use another namespace"
                )
            deleting = "deletionTimestamp" in existing["metadata"]
            reason = reason_to_replace(existing, job, self._kind)
            if not deleting and not reason:
                self._adopt(existing, body)
                return
            if not deleting:
                log.info("%s %s of an earlier attempt %s: replacing it", self._kind.name, name, reason)
                self._delete(name)
            if time.monotonic() > deadline:
                raise TrainingError(
                    f"{self._kind.name} {name} was not deleted within {_DELETED_WITHIN_S:.0f} s: "
                    "check its finalizers and the nodes of its pods"
                )
            time.sleep(min(1.0, self._poll_s))

    def _adopt(self, existing: Mapping[str, Any], body: Mapping[str, Any]) -> None:
        metadata = existing["metadata"]
        if run := body["metadata"]["labels"].get(RUN):
            self._jobs.patch(metadata["name"], {"metadata": {"labels": {RUN: run}}})
        log.info("%s %s already exists: waiting for it", self._kind.name, metadata["name"])
        if metadata.get("annotations", {}).get(CONTENT) != body["metadata"]["annotations"][CONTENT]:
            log.warning(
                "it keeps the image and size that it was created with, which differ from the current settings"
            )

    def _wait(self, job: TrainingJob) -> None:
        name, pod_log = job.name, PodLog(self._core, self._namespace, self._kind.container)
        watch = ProblemWatch(self._shape)
        patient = dataclasses.replace(self._jobs, patience_s=LONG_PATIENCE_S)  # survives an outage of the API
        while True:
            existing = patient.get(name)
            if existing is None:
                raise TrainingError(f"{self._kind.name} {name} was deleted during training: start it again")
            pods = self._pods.select(labelSelector=f"{self._kind.pod_label}={name}")
            if pod := self._kind.leader(pods):
                pod_log.ensure(pod)
            if condition(existing, self._kind.succeeded):
                pod_log.finish(5.0)
                self._check_output(job)
                return
            current = problems(pods, _VARIABLE)
            if failed := condition(existing, "Failed"):
                pod_log.finish(5.0)
                watch.update(current)
                message = self._failure(name, failed, pods, list(watch.known.values()), pod_log)
                if any(pod.get("status", {}).get("phase") == "Running" for pod in pods):
                    self._delete(name)  # the operator keeps the pods for their logs
                raise TrainingError(message)
            if blocking := watch.update(current + self._missing(existing, pods)):
                self._delete(name)
                raise TrainingError(f"training {name} cannot start: {blocking} ({watch.waited(blocking)})")
            self._watch(name, existing["metadata"]["resourceVersion"])

    def _missing(self, existing: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> list[PodProblem]:
        """Problems of pods that should exist but do not, and of volumes that pending pods wait for."""
        name = existing["metadata"]["name"]
        few = len(pods) < self._kind.pods_wanted(existing)
        pending = any(pod.get("status", {}).get("phase") == "Pending" for pod in pods)
        if not few and not pending:
            return []
        events = self._events.select(fieldSelector="type=Warning")
        known = problems_in_events(events, [] if few else pods, name, _VARIABLE)
        return known or ([not_created(existing, len(pods), self._kind, _VARIABLE)] if few else [])

    def _check_output(self, job: TrainingJob) -> None:
        deadline = time.monotonic() + self._shape.output_grace_s
        while job.out is not None and not job.out.exists():
            if time.monotonic() < deadline:
                time.sleep(min(1.0, self._poll_s))
                continue
            raise TrainingError(
                f"{self._kind.name} {job.name} succeeded, but {job.out} does not exist: is the claim "
                f"{self._shape.claim} of its pods the one mounted here at {self._home}?"
            )

    def _watch(self, name: str, version: str) -> None:
        """Return when the job changes, after `poll_s`, or when the watch breaks."""
        from kubernetes import watch
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        start = time.monotonic()
        try:
            for _ in watch.Watch().stream(
                self._watched.list_namespaced_custom_object,
                self._kind.group,
                self._kind.version,
                self._namespace,
                self._kind.plural,
                field_selector=f"metadata.name={name}",
                resource_version=version,
                timeout_seconds=max(1, round(self._poll_s)),
                _request_timeout=(5, self._poll_s + 5),
            ):
                return
        except (ApiException, HTTPError, OSError, ValueError) as error:
            # 410, a cut connection, half an event: the next `get` shows whether that is an error
            log.debug("the watch ended: %s", error)
            time.sleep(max(0.0, min(1.0, self._poll_s) - (time.monotonic() - start)))

    def _failure(
        self,
        name: str,
        failed: Mapping[str, Any],
        pods: Sequence[Mapping[str, Any]],
        known: Sequence[PodProblem],
        pod_log: PodLog,
    ) -> str:
        faults = [problem for problem in known if not problem.blocks]
        what = failed.get("message") or failed.get("reason") or "no reason given"
        reasons = "; ".join(dict.fromkeys([what, *map(str, faults)]))
        blamed = faults[0].pod if faults else self._kind.leader(pods)
        lines = (self._last_lines(blamed) if blamed else []) or list(pod_log.lines)[-_SHOWN_LINES:]
        own = [line.removeprefix(_OWN_ERROR) for line in lines if line.startswith(_OWN_ERROR)]
        if own:
            detail = own[0]
        elif lines:
            detail = "its last lines were\n" + "\n".join(lines)
        else:
            detail = "it left no log"
        return f"training {name} failed ({reasons}): {detail}"

    def _last_lines(self, pod: str) -> list[str]:
        from kubernetes.client.exceptions import ApiException

        def read(previous: bool) -> str:
            return str(
                self._core.read_namespaced_pod_log(
                    pod,
                    self._namespace,
                    container=self._kind.container,
                    tail_lines=_SHOWN_LINES,
                    previous=previous,
                    _request_timeout=CALL_TIMEOUT_S,
                )
            )

        for previous in (True, False):  # first the container that crashed, if it was restarted
            try:
                if text := retried(lambda previous=previous: read(previous), patience_s=3.0):  # type: ignore[misc]
                    return text.splitlines()
            except (ApiException, OSError):
                continue
        return []

    def _delete_if_ours(self, name: str) -> None:
        existing = self._jobs.get(name)
        if existing is not None and is_ours(existing):
            log.warning("interrupted: deleting %s %s", self._kind.name, name)
            self._delete(name)

    def _delete_expired(self) -> None:
        """Delete our finished jobs after `keep_finished_s`, if the cluster does not."""
        if self._kind.expires:
            return
        for job in self._jobs.select(labelSelector=f"{MANAGED_BY[0]}={MANAGED_BY[1]}"):
            if has_expired(job, self._kind, self._shape.keep_finished_s):
                self._delete(job["metadata"]["name"])

    def _delete(self, name: str) -> None:
        # foreground, so that the old job's pods are gone before a new job with this name is created
        self._jobs.delete(name, propagationPolicy="Foreground")
