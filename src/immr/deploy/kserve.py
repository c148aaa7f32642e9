"""Versions on a cluster: one InferenceService per version, and a ConfigMap that maps roles to them."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from immr.cluster.api import Kind
from immr.cluster.objects import CONTENT, MANAGED_BY, condition, is_live, is_ours
from immr.cluster.pod_problems import (
    INVALID_SPEC,
    NOT_SCALED,
    RECONCILE_FAILED,
    PodProblem,
    ProblemWatch,
    problems,
    problems_in_events,
)
from immr.cluster.retries import LONG_PATIENCE_S, api_errors_as
from immr.deploy.bento_content import built_content
from immr.deploy.bento_storage import pinned
from immr.deploy.deployer import Deployment
from immr.deploy.inference_service import (
    BENTO,
    BENTO_CONTENT,
    GROUP,
    PLURAL,
    VERSION,
    VERSION_ID,
    ServingShape,
    inference_service,
    keep_autoscaler,
    mark_content,
)
from immr.errors import DeployError
from immr.machine.wording import by_number, counted
from immr.types import ALL_ROLES, ModelVersion, Role

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

log = logging.getLogger(__name__)
ROLES = "immr-roles"  # ConfigMap of k8s/base/serving: {<place>: <InferenceService>}
_PREVIOUS = "previous"
Place: TypeAlias = str
"""A role, or "previous": the last champion, kept running for a rollback."""
_VARIABLE = "IMMR_DEPLOY_URL"
_POD_LABEL = "serving.kserve.io/inferenceservice"


class KserveDeployer:
    """A `Deployer` for KServe in Standard mode.

    A version that loses its role keeps serving until the roles change again, because gateways may still route
    users to it. The previous champion serves until another one takes its place, so that a rollback finds it running.
    """

    def __init__(
        self,
        api: ApiClient,
        namespace: str,
        shape: ServingShape,
        bento_home: Path | None = None,
        poll_s: float = 2.0,
    ) -> None:
        """A Bento that is in the store at `bento_home` and was packaged again since is rolled out by `apply`."""
        self._services = Kind(api, f"/apis/{GROUP}/{VERSION}", PLURAL, namespace)
        # for waiting, which must survive an outage of the API server
        self._waited = dataclasses.replace(self._services, patience_s=LONG_PATIENCE_S)
        self._pods = Kind(api, "/api/v1", "pods", namespace, LONG_PATIENCE_S)
        self._events = Kind(api, "/api/v1", "events", namespace, LONG_PATIENCE_S)
        self._addresses = Kind(api, "/api/v1", "services", namespace)
        self._maps = Kind(api, "/api/v1", "configmaps", namespace)
        self._namespace = namespace
        self._shape = shape
        self._bento_home = bento_home
        self._poll_s = poll_s

    def apply(self, version: ModelVersion, bento: str, role: Role) -> Deployment:
        """See `Deployer.apply`; the version gets its role once it is ready.

        Raises:
            DeployError: The version cannot start or is not ready in time, so the previous version keeps the role;
                or the API refused.
        """
        body = inference_service(version, bento, self._namespace, self._shape)
        name = body["metadata"]["name"]
        model = body["spec"]["predictor"]["model"]
        model["storageUri"] = pinned(model["storageUri"])
        with api_errors_as(DeployError, f"deploying {version.id} in {self._namespace}"):
            before = self._places()
            if bento_content := self._bento_content(name, bento):
                body["metadata"]["annotations"][BENTO_CONTENT] = bento_content
            content = mark_content(body)
            applied = self._create_or_update(name, body)
            self._wait_until_ready(name, content)
            change: dict[Place, str] = {role: name}
            if role == "champion" and before.get(role, name) != name:
                change[_PREVIOUS] = before[role]
            self._save_places(change)
            for other in self._ours():
                self._retire(other["metadata"]["name"], before, before | change)
            return self._deployment(applied, role)

    def current(self) -> Sequence[Deployment]:
        """See `Deployer.current`.

        Raises:
            DeployError: The API refused.
        """
        with api_errors_as(DeployError, f"listing deployments in {self._namespace}"):
            roles, ours = self._places(), {service["metadata"]["name"]: service for service in self._ours()}
            return [
                self._deployment(ours[roles[role]], role) for role in ALL_ROLES if roles.get(role) in ours
            ]

    def remove(self, role: Role) -> None:
        """See `Deployer.remove`. Deletes versions left without a role; "champion" includes the previous one.

        Raises:
            DeployError: The API refused.
        """
        with api_errors_as(DeployError, f"removing the {role} in {self._namespace}"):
            places = self._places()
            if role not in places:
                return
            gone: set[Place] = {role, _PREVIOUS} if role == "champion" else {role}
            left = {name for place, name in places.items() if place not in gone}
            self._save_places(dict.fromkeys(gone))
            for name in {places[place] for place in gone & places.keys()} - left:
                self._services.delete(name)

    def _create_or_update(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        if applied := self._services.create(body):
            return applied
        existing = self._services.get(name) or {"metadata": {}}
        if not is_ours(existing):
            raise DeployError(
                f"namespace {self._namespace} has an InferenceService {name} that IMMR did not create: "
                "delete it, or use another namespace"
            )
        if keep_autoscaler(body, existing):
            log.warning(
                "%s keeps the autoscaler it was created with, because KServe cannot change it; "
                "in_flight_target holds for versions that are deployed for the first time",
                name,
            )
        return self._services.patch(name, body)

    def _bento_content(self, name: str, bento: str) -> str:
        """The Bento's content; where it is unknown, that of the existing object, whose pods then stay."""
        if self._bento_home and (content := built_content(self._bento_home, bento)):
            return content
        existing = self._services.get(name) or {"metadata": {}}
        return str(existing["metadata"].get("annotations", {}).get(BENTO_CONTENT, ""))

    def _wait_until_ready(self, name: str, content: str) -> None:
        """Return once the version is ready with `min_replicas` pods, and no pod with another content is left.

        KServe starts one pod and calls the version ready; the others are the autoscaler's.

        Raises:
            DeployError: The version's pods cannot start (detected within a minute), or it was not ready in time.
        """
        deadline = time.monotonic() + self._shape.ready_timeout_s
        watch = ProblemWatch(self._shape)
        while True:
            existing = self._waited.get(name)
            if existing is None:
                raise DeployError(f"{name} was deleted while it started: deploy it again")
            pods = [pod for pod in self._pods.select(labelSelector=f"{_POD_LABEL}={name}") if is_live(pod)]
            wanted = [pod for pod in pods if _content(pod) == content]
            ready = sum(condition(pod, "Ready") is not None for pod in wanted)
            enough = ready >= self._shape.min_replicas
            if condition(existing, "Ready") and enough and len(wanted) == len(pods):
                return
            status = existing.get("status", {})
            current = _refusals(name, status) + self._problems(name, wanted)
            if 0 < len(pods) < self._shape.min_replicas:  # none: KServe has not started
                current.append(_too_few(name, len(pods), self._shape.min_replicas))
            if blocking := watch.update(current):
                raise DeployError(
                    f"{name} cannot start: {blocking} ({watch.waited(blocking)}). The previous version keeps its "
                    "role."
                )
            if time.monotonic() > deadline:
                reasons = _reasons(status, len(pods) - len(wanted), ready, self._shape.min_replicas)
                raise DeployError(
                    f"{name} was not ready after {self._shape.ready_timeout_s} s ({reasons}); the "
                    f"previous version keeps its role. See kubectl -n {self._namespace} describe "
                    f"inferenceservice {name}"
                )
            time.sleep(self._poll_s)

    def _problems(self, name: str, pods: Sequence[Mapping[str, Any]]) -> list[PodProblem]:
        events = self._events.select(fieldSelector="type=Warning")
        return problems(pods, _VARIABLE, crash_loop_blocks=True) + problems_in_events(
            events, pods, f"{name}-predictor", _VARIABLE
        )

    def _retire(self, name: str, before: Mapping[Place, str], now: Mapping[Place, str]) -> None:
        if name in now.values():
            return
        if any(before.get(role) == name for role in ALL_ROLES):
            log.info("%s has lost its role; it keeps serving until the roles change again", name)
            return
        log.info("%s has had no role since the last change: deleting it", name)
        self._services.delete(name)

    def _places(self) -> dict[Place, str]:
        existing = self._maps.get(ROLES)
        if existing is None:
            raise DeployError(
                f"namespace {self._namespace} has no ConfigMap {ROLES}, which maps roles to versions: "
                "apply an overlay of k8s/ to it"
            )
        data = existing.get("data") or {}
        return {place: data[place] for place in (*ALL_ROLES, _PREVIOUS) if data.get(place)}

    def _save_places(self, places: Mapping[Place, str | None]) -> None:
        """Give these places to these InferenceServices; None empties a place. Others stay as they are."""
        self._maps.patch(ROLES, {"data": dict(places)})

    def _ours(self) -> list[dict[str, Any]]:
        return self._services.select(labelSelector="=".join(MANAGED_BY))

    def _deployment(self, service: Mapping[str, Any], role: Role) -> Deployment:
        metadata = service["metadata"]
        notes = metadata.get("annotations", {})
        version_id = notes.get(VERSION_ID, metadata["name"])
        return Deployment(role, version_id, notes.get(BENTO, ""), self._address(metadata["name"]))

    def _address(self, name: str) -> str:
        """URL inside the cluster. A headless Service needs the port of the pod."""
        host = f"{name}-predictor"
        service = (self._addresses.get(host) or {}).get("spec", {})
        headless = service.get("clusterIP") == "None"
        port = f":{service['ports'][0]['targetPort']}" if headless else ""
        return f"http://{host}.{self._namespace}.svc.cluster.local{port}"


def _content(pod: Mapping[str, Any]) -> str:
    return str(pod["metadata"].get("annotations", {}).get(CONTENT, ""))


def _refusals(name: str, status: Mapping[str, Any]) -> list[PodProblem]:
    """Why KServe creates no pods: it could not create an object, or does not accept the specification."""
    found = [
        PodProblem(f"of {name}", entry["reason"], entry.get("message", ""), True)
        for entry in status.get("conditions", [])
        if entry["status"] == "False" and entry.get("reason") == RECONCILE_FAILED
    ]
    model = status.get("modelStatus", {})
    if model.get("transitionStatus") == INVALID_SPEC:
        message = model.get("lastFailureInfo", {}).get("message", "")
        found.append(PodProblem(f"of {name}", INVALID_SPEC, message, True))
    return found


def _too_few(name: str, pods: int, wanted: int) -> PodProblem:
    message = f"{counted(pods, 'pod')} of min_replicas={wanted}"
    return PodProblem(f"of {name}", NOT_SCALED, message, True, _VARIABLE)


def _reasons(status: Mapping[str, Any], outdated: int, ready: int, wanted: int) -> str:
    failure = status.get("modelStatus", {}).get("lastFailureInfo", {})
    messages = [
        f"{entry['type']}: {entry.get('message') or entry.get('reason')}"
        for entry in status.get("conditions", [])
        if entry["status"] != "True" and (entry.get("message") or entry.get("reason"))
    ]
    if known := list(filter(None, [failure.get("message", ""), *messages])):
        return "; ".join(known)
    if outdated:
        return f"{counted(outdated, 'pod')} {by_number(outdated, 'has', 'have')} not been replaced"
    if ready:
        return f"{counted(ready, 'pod')} of min_replicas={wanted} {by_number(ready, 'is', 'are')} ready"
    return "KServe reports no reason; is its controller running?"
