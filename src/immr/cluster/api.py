"""A connection to the Kubernetes API, and objects of one kind in one namespace."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from immr.cluster.retries import CALL_TIMEOUT_S, PATIENCE_S, retried
from immr.errors import SettingsError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Kind:
    """Objects of one kind in one namespace. Calls are idempotent, and retried while the server is busy.

    Every method raises `ApiException` if the API refuses, and `OSError` if it does not answer.
    """

    api: ApiClient
    prefix: str  # "/apis/kubeflow.org/v1", "/api/v1"
    plural: str
    namespace: str
    patience_s: float = PATIENCE_S

    def create(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Create an object; None if its name is taken, possibly by an earlier attempt of this call."""
        from kubernetes.client.exceptions import ApiException

        try:
            return self._call("POST", body=body)
        except ApiException as error:
            if error.status == 409:
                return None
            raise

    def get(self, name: str) -> dict[str, Any] | None:
        """One object; None if it does not exist."""
        from kubernetes.client.exceptions import ApiException

        try:
            return self._call("GET", name)
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    def select(self, **selectors: str) -> list[dict[str, Any]]:
        """All objects that match `labelSelector=` and `fieldSelector=`."""
        items: list[dict[str, Any]] = self._call("GET", query=selectors)["items"]
        return items

    def patch(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Apply a merge patch (RFC 7386); custom resources reject the client's default, a strategic one."""
        return self._call("PATCH", name, body=body, content="application/merge-patch+json")

    def delete(self, name: str, **options: str) -> None:
        """Delete an object; it is not an error if it does not exist."""
        from kubernetes.client.exceptions import ApiException

        try:
            self._call("DELETE", name, query=options)
        except ApiException as error:
            if error.status != 404:
                raise

    def _call(
        self,
        method: str,
        name: str = "",
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content: str = "application/json",
    ) -> dict[str, Any]:
        path = f"{self.prefix}/namespaces/{self.namespace}/{self.plural}" + (f"/{name}" if name else "")
        answer: dict[str, Any] = retried(
            lambda: self.api.call_api(
                path,
                method,
                query_params=list((query or {}).items()),
                header_params={"Accept": "application/json", "Content-Type": content},
                body=body,
                response_type="object",
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _request_timeout=CALL_TIMEOUT_S,
            ),
            self.patience_s,
        )
        return answer


def served_kinds(api: ApiClient, group: str, version: str) -> set[str]:
    """Plural names of the kinds that the cluster serves in a version of a group; empty if it has none.

    Raises:
        ApiException: The API refused.
        OSError: The API does not answer.
    """
    from kubernetes.client.exceptions import ApiException

    def ask() -> dict[str, Any]:
        answer: dict[str, Any] = api.call_api(
            f"/apis/{group}/{version}",
            "GET",
            header_params={"Accept": "application/json"},
            response_type="object",
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
            _request_timeout=CALL_TIMEOUT_S,
        )
        return answer

    try:
        return {str(one["name"]) for one in retried(ask)["resources"]}
    except ApiException as error:
        if error.status == 404:
            return set()
        raise


def own_namespace() -> str:
    """The namespace of this pod; outside a cluster, that of the kubeconfig's current context.

    Raises:
        SettingsError: This is not a pod, and there is no kubeconfig.
    """
    from kubernetes import config

    if _POD_NAMESPACE.is_file():
        return _POD_NAMESPACE.read_text().strip()
    try:
        _, context = config.list_kube_config_contexts(os.environ.get("KUBECONFIG"))
    except config.ConfigException as error:
        raise SettingsError(
            f"the URL names no namespace, and neither a pod's account nor a kubeconfig does ({error}): run this in "
            "the tools pod, or set KUBECONFIG"
        ) from error
    return str(context["context"].get("namespace") or "default")


def connect() -> ApiClient:
    """A client with this pod's credentials; outside a cluster, with those of the kubeconfig.

    Raises:
        SettingsError: This is not a pod, and there is no kubeconfig.
    """
    from kubernetes import client, config

    configuration = client.Configuration()
    try:
        config.load_incluster_config(configuration)
    except config.ConfigException:
        try:
            file = os.environ.get("KUBECONFIG")  # the library reads it only once, at import
            config.load_kube_config(file, client_configuration=configuration)
        except config.ConfigException as error:
            raise SettingsError(
                f"no Kubernetes cluster is configured ({error}): set KUBECONFIG, or run this in the tools pod"
            ) from error
    # `retried` does this; urllib3 would also retry requests that are not idempotent
    configuration.retries = False
    return client.ApiClient(configuration)
