"""Versions that serve on a cluster: one InferenceService each; a ConfigMap says which has which role."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from immr.cluster.api import Kind, in_words
from immr.deploy.deployer import Deployment
from immr.deploy.kserve_objects import (
    BENTO,
    GROUP,
    MANAGED_BY,
    PLURAL,
    VERSION,
    VERSION_ID,
    ServingShape,
    inference_service,
)
from immr.errors import DeployError
from immr.types import ModelVersion, Role

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

log = logging.getLogger(__name__)
ROLES = "immr-roles"  # ConfigMap of k8s/base/serving: {champion: <InferenceService>, challenger: …}
_ROLES: tuple[Role, ...] = ("champion", "challenger")


class KserveDeployer:
    """A `Deployer` over KServe in Standard mode.

    What a role's version replaces goes on serving, in no role, until the role changes again: a gateway that
    still sends it users gets answers, and a rollback finds it running.
    """

    def __init__(self, api: ApiClient, namespace: str, shape: ServingShape, poll_s: float = 2.0) -> None:
        self._services = Kind(api, f"/apis/{GROUP}/{VERSION}", PLURAL, namespace)
        self._addresses = Kind(api, "/api/v1", "services", namespace)
        self._maps = Kind(api, "/api/v1", "configmaps", namespace)
        self._namespace = namespace
        self._shape = shape
        self._poll_s = poll_s

    def apply(self, version: ModelVersion, bento: str, role: Role) -> Deployment:
        """See `Deployer.apply`; returns when the version is ready, and gives it the role only then.

        Raises:
            DeployError: it does not get ready in time (the one before keeps the role), or the API refuses.
        """
        body = inference_service(version, bento, self._namespace, self._shape)
        name = body["metadata"]["name"]
        with self._explained(f"deploying {version.id}"):
            before = self._roles()
            made = self._make(name, body)
            self._wait_until_ready(name, int(made["metadata"].get("generation", 0)))
            self._give({role: name})
            for other in self._ours():
                self._retire(other["metadata"]["name"], before, before | {role: name})
            return self._deployment(made, role)

    def current(self) -> Sequence[Deployment]:
        """See `Deployer.current`.

        Raises:
            DeployError: the API refuses.
        """
        with self._explained("listing what serves"):
            roles, ours = self._roles(), {one["metadata"]["name"]: one for one in self._ours()}
            return [self._deployment(ours[roles[role]], role) for role in _ROLES if roles.get(role) in ours]

    def remove(self, role: Role) -> None:
        """See `Deployer.remove`: a version that has no other role is deleted.

        Raises:
            DeployError: the API refuses.
        """
        with self._explained(f"removing the {role}"):
            roles = self._roles()
            name = roles.pop(role, None)
            if name is None:
                return
            self._give({role: None})
            if name not in roles.values():
                self._services.delete(name)

    def _make(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create it, or bring it to what is wanted; its generation is the one whose status counts."""
        if made := self._services.create(body):
            return made
        there = self._services.get(name) or {"metadata": {}}
        if there["metadata"].get("labels", {}).get(MANAGED_BY[0]) != MANAGED_BY[1]:
            raise DeployError(
                f"there is an InferenceService {name} in {self._namespace} that IMMR did not make: "
                "delete it, or use another namespace"
            )
        return self._services.patch(name, body)

    def _wait_until_ready(self, name: str, generation: int) -> None:
        deadline = time.monotonic() + self._shape.ready_timeout_s
        while True:
            there = self._services.get(name)
            if there is None:
                raise DeployError(f"{name} was deleted while it was waited for: deploy it again")
            status = there.get("status", {})
            ready = _condition(status, "Ready").get("status") == "True"
            if ready and int(status.get("observedGeneration", generation)) >= generation:
                return
            if time.monotonic() > deadline:
                raise DeployError(
                    f"{name} did not get ready in {self._shape.ready_timeout_s} s ({_reasons(status)}); the "
                    f"version before keeps its role. Look at: kubectl -n {self._namespace} describe "
                    f"inferenceservice {name}"
                )
            time.sleep(self._poll_s)

    def _retire(self, name: str, before: Mapping[Role, str], now: Mapping[Role, str]) -> None:
        if name in now.values():
            return
        if name in before.values():
            log.info("%s has no role any more; it goes on until the next change", name)
            return
        log.info("%s has had no role for a change: deleting it", name)
        self._services.delete(name)

    def _roles(self) -> dict[Role, str]:
        there = self._maps.get(ROLES)
        if there is None:
            raise DeployError(
                f"there is no ConfigMap {ROLES} in {self._namespace}, which says who has which role: "
                "apply an overlay of k8s/ to this namespace"
            )
        data = there.get("data") or {}
        return {role: data[role] for role in _ROLES if data.get(role)}

    def _give(self, roles: Mapping[Role, str | None]) -> None:
        self._maps.patch(ROLES, {"data": dict(roles)})

    def _ours(self) -> list[dict[str, Any]]:
        return self._services.select(labelSelector="=".join(MANAGED_BY))

    def _deployment(self, one: Mapping[str, Any], role: Role) -> Deployment:
        metadata = one["metadata"]
        notes = metadata.get("annotations", {})
        version_id = notes.get(VERSION_ID, metadata["name"])
        return Deployment(role, version_id, notes.get(BENTO, ""), self._address(metadata["name"]))

    def _address(self, name: str) -> str:
        """Inside the cluster; where KServe makes headless services, a port is the pod's own."""
        host = f"{name}-predictor"
        service = (self._addresses.get(host) or {}).get("spec", {})
        headless = service.get("clusterIP") == "None"
        port = f":{service['ports'][0]['targetPort']}" if headless else ""
        return f"http://{host}.{self._namespace}.svc.cluster.local{port}"

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        from kubernetes.client.exceptions import ApiException

        try:
            yield
        except (ApiException, OSError) as error:
            raise DeployError(in_words(error, f"{doing} in {self._namespace}")) from error


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    conditions: list[Mapping[str, Any]] = status.get("conditions", [])
    return next((one for one in conditions if one["type"] == kind), {})


def _reasons(status: Mapping[str, Any]) -> str:
    failure = status.get("modelStatus", {}).get("lastFailureInfo", {})
    said = [
        f"{one['type']}: {one.get('message') or one.get('reason')}"
        for one in status.get("conditions", [])
        if one["status"] != "True" and (one.get("message") or one.get("reason"))
    ]
    return "; ".join(filter(None, [failure.get("message", ""), *said])) or "no condition says why"
