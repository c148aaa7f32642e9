"""Versions that serve on a cluster: one InferenceService each; labels say in which role."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from immr.cluster import CALL_TIMEOUT_S, in_words, patiently
from immr.deploy.kserve_objects import (
    BENTO,
    GROUP,
    MANAGED_BY,
    PLURAL,
    VERSION,
    VERSION_ID,
    ServingShape,
    inference_service,
    role_label,
)
from immr.deploy.port import Deployment
from immr.errors import DeployError
from immr.types import ModelVersion, Role

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

log = logging.getLogger(__name__)
_ROLES: tuple[Role, ...] = ("champion", "challenger")


class KserveDeployer:
    """A `Deployer` over KServe in Standard mode.

    What a role's version replaces goes on serving, in no role, until the role changes again: a gateway that
    still sends it users gets answers, and a rollback finds it running.
    """

    def __init__(self, api: ApiClient, namespace: str, shape: ServingShape, poll_s: float = 2.0) -> None:
        from kubernetes import client

        self._api = api
        self._objects = client.CustomObjectsApi(api)
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
            generation = self._make(name, body)
            self._wait_until_ready(name, generation)
            before = self._ours()
            there = self._patch(name, {"metadata": {"labels": {role_label(role): "true"}}})
            for other in before:
                if other["metadata"]["name"] != name:
                    self._retire(other, role)
        return _deployment(there, role)

    def current(self) -> Sequence[Deployment]:
        """See `Deployer.current`.

        Raises:
            DeployError: the API refuses.
        """
        with self._explained("listing what serves"):
            ours = self._ours()
        return [_deployment(one, role) for role in _ROLES for one in ours if _has(one, role)]

    def remove(self, role: Role) -> None:
        """See `Deployer.remove`: a version that has no other role is deleted.

        Raises:
            DeployError: the API refuses.
        """
        with self._explained(f"removing the {role}"):
            for one in self._ours():
                if _has(one, role) and not any(_has(one, other) for other in _ROLES if other != role):
                    self._delete(one["metadata"]["name"])
                elif _has(one, role):
                    self._unlabel(one, role)

    def _make(self, name: str, body: dict[str, Any]) -> int:
        """Create it, or bring it to what is wanted; the generation whose status counts."""
        from kubernetes.client.exceptions import ApiException

        try:
            made = patiently(
                lambda: self._objects.create_namespaced_custom_object(
                    GROUP, VERSION, self._namespace, PLURAL, body, _request_timeout=CALL_TIMEOUT_S
                )
            )
        except ApiException as error:
            if error.status != 409:
                raise
            self._check_ours(name)
            made = self._patch(name, body)
        return int(made["metadata"].get("generation", 0))

    def _check_ours(self, name: str) -> None:
        if self._get(name)["metadata"].get("labels", {}).get(MANAGED_BY[0]) != MANAGED_BY[1]:
            raise DeployError(
                f"there is an InferenceService {name} in {self._namespace} that IMMR did not make: "
                "delete it, or use another namespace"
            )

    def _wait_until_ready(self, name: str, generation: int) -> None:
        deadline = time.monotonic() + self._shape.ready_timeout_s
        while True:
            status = self._get(name).get("status", {})
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

    def _retire(self, other: Mapping[str, Any], role: Role) -> None:
        name = other["metadata"]["name"]
        if _has(other, role):
            log.info("%s is no longer %s; it goes on until the next one", name, role)
            self._unlabel(other, role)
        elif not any(_has(other, one) for one in _ROLES):
            log.info("%s has no role any more: deleting it", name)
            self._delete(name)

    def _unlabel(self, one: Mapping[str, Any], role: Role) -> None:
        self._patch(one["metadata"]["name"], {"metadata": {"labels": {role_label(role): None}}})

    def _ours(self) -> list[dict[str, Any]]:
        answer = patiently(
            lambda: self._objects.list_namespaced_custom_object(
                GROUP,
                VERSION,
                self._namespace,
                PLURAL,
                label_selector="=".join(MANAGED_BY),
                _request_timeout=CALL_TIMEOUT_S,
            )
        )
        items: list[dict[str, Any]] = answer["items"]
        return items

    def _get(self, name: str) -> dict[str, Any]:
        there: dict[str, Any] = patiently(
            lambda: self._objects.get_namespaced_custom_object(
                GROUP, VERSION, self._namespace, PLURAL, name, _request_timeout=CALL_TIMEOUT_S
            )
        )
        return there

    def _patch(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """RFC 7386; the client's own method would send a dict as a strategic merge, which no CRD takes."""
        there: dict[str, Any] = patiently(
            lambda: self._api.call_api(
                f"/apis/{GROUP}/{VERSION}/namespaces/{self._namespace}/{PLURAL}/{name}",
                "PATCH",
                header_params={
                    "Accept": "application/json",
                    "Content-Type": "application/merge-patch+json",
                },
                body=body,
                response_type="object",
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _request_timeout=CALL_TIMEOUT_S,
            )
        )
        return there

    def _delete(self, name: str) -> None:
        from kubernetes.client.exceptions import ApiException

        try:
            patiently(
                lambda: self._objects.delete_namespaced_custom_object(
                    GROUP, VERSION, self._namespace, PLURAL, name, _request_timeout=CALL_TIMEOUT_S
                )
            )
        except ApiException as error:
            if error.status != 404:
                raise

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        from kubernetes.client.exceptions import ApiException

        try:
            yield
        except (ApiException, OSError) as error:
            raise DeployError(in_words(error, f"{doing} in {self._namespace}")) from error


def _has(one: Mapping[str, Any], role: Role) -> bool:
    return bool(one["metadata"].get("labels", {}).get(role_label(role)) == "true")


def _deployment(one: Mapping[str, Any], role: Role) -> Deployment:
    metadata = one["metadata"]
    notes = metadata.get("annotations", {})
    # the address inside the cluster; status.url would go out and in again
    address = f"http://{metadata['name']}-predictor.{metadata['namespace']}.svc.cluster.local"
    return Deployment(role, notes.get(VERSION_ID, metadata["name"]), notes.get(BENTO, ""), address)


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
