"""The Kubernetes API: where it is, patience with it, its objects, and its errors in words."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from immr.errors import SettingsError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient
    from kubernetes.client.exceptions import ApiException

_log = logging.getLogger(__name__)
Answer = TypeVar("Answer")
Shape = TypeVar("Shape")

CALL_TIMEOUT_S = 30.0
_USER = 10001  # of the images
_TRIES = 6
_PASSES = (429, 500, 502, 503, 504)  # what an API server says when it may say something else soon
_REMEDIES = {
    401: "the credentials are not valid (any more): log in again, or look at the ServiceAccount's token",
    403: "the ServiceAccount may not do that: compare its Role with k8s/base",
    404: "no such object or no such kind: is the operator installed? `immr doctor --cluster` says",
    409: "another one of that name is in the way",
    422: "the field it names comes from IMMR_LAUNCH_URL or IMMR_DEPLOY_URL: correct it there",
}


_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Kind:
    """Objects of one kind in one namespace; every call is patient, and what it asks may be repeated."""

    api: ApiClient
    prefix: str  # "/apis/kubeflow.org/v1", "/api/v1"
    plural: str
    namespace: str

    def create(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Make it; None where one of that name is there (a first try that did arrive is one too).

        Raises:
            ApiException: the API refuses.
            OSError: it does not answer.
        """
        from kubernetes.client.exceptions import ApiException

        try:
            return self._ask("POST", body=body)
        except ApiException as error:
            if error.status == 409:
                return None
            raise

    def get(self, name: str) -> dict[str, Any] | None:
        """One object; None where there is none.

        Raises:
            ApiException: the API refuses.
            OSError: it does not answer.
        """
        from kubernetes.client.exceptions import ApiException

        try:
            return self._ask("GET", name)
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    def select(self, **selectors: str) -> list[dict[str, Any]]:
        """All that fit `labelSelector=` and `fieldSelector=`.

        Raises:
            ApiException: the API refuses.
            OSError: it does not answer.
        """
        items: list[dict[str, Any]] = self._ask("GET", query=selectors)["items"]
        return items

    def patch(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Change it by RFC 7386: the client's own would send a strategic merge, which no CRD takes.

        Raises:
            ApiException: the API refuses.
            OSError: it does not answer.
        """
        return self._ask("PATCH", name, body=body, content="application/merge-patch+json")

    def delete(self, name: str, tries: int = 6, **options: str) -> None:
        """Let it go; one that is gone already is no error.

        Raises:
            ApiException: the API refuses.
            OSError: it does not answer.
        """
        from kubernetes.client.exceptions import ApiException

        try:
            self._ask("DELETE", name, query=options, tries=tries)
        except ApiException as error:
            if error.status != 404:
                raise

    def _ask(
        self,
        method: str,
        name: str = "",
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content: str = "application/json",
        tries: int = 6,
    ) -> dict[str, Any]:
        path = f"{self.prefix}/namespaces/{self.namespace}/{self.plural}" + (f"/{name}" if name else "")
        answer: dict[str, Any] = patiently(
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
            tries,
        )
        return answer


def shape_from_query(shape: Callable[..., Shape], variable: str, query: Mapping[str, str]) -> Shape:
    """A dataclass of whole numbers and strings, its defaults changed by a URL's query.

    Raises:
        SettingsError: a name that is not known, or a number that is none.
    """
    kinds = {name: type(value) for name, value in dataclasses.asdict(shape()).items()}  # type: ignore[call-overload]
    changes: dict[str, Any] = {}
    for name, value in query.items():
        if name not in kinds:
            raise SettingsError(f"{variable} has {name!r}; known are {', '.join(sorted(kinds))}")
        try:
            changes[name] = kinds[name](value)
        except ValueError as error:
            raise SettingsError(f"{variable} has {name}={value!r}: give a whole number") from error
    return shape(**changes)


def restricted_pod() -> Any:
    """A pod's security context: the user of IMMR's images, and their group on volumes."""
    from kubernetes import client

    return client.V1PodSecurityContext(
        run_as_non_root=True,
        run_as_user=_USER,
        run_as_group=_USER,
        fs_group=_USER,
        fs_group_change_policy="OnRootMismatch",
        seccomp_profile=client.V1SeccompProfile(type="RuntimeDefault"),
    )


def own_namespace() -> str:
    """Where this pod runs; outside a cluster, what the kubeconfig's context says.

    Raises:
        SettingsError: neither says.
    """
    from kubernetes import config

    if _POD_NAMESPACE.is_file():
        return _POD_NAMESPACE.read_text().strip()
    try:
        _, context = config.list_kube_config_contexts(os.environ.get("KUBECONFIG"))
    except config.ConfigException as error:
        raise SettingsError(f"no namespace is named, and no cluster configured ({error})") from error
    return str(context["context"].get("namespace") or "default")


def connect() -> ApiClient:
    """A client with a pod's own credentials, or with those of the kubeconfig outside a cluster.

    Raises:
        SettingsError: there are neither.
    """
    from kubernetes import client, config

    configuration = client.Configuration()
    try:
        config.load_incluster_config(configuration)
    except config.ConfigException:
        try:
            file = os.environ.get("KUBECONFIG")  # the client itself reads it only once, when imported
            config.load_kube_config(file, client_configuration=configuration)
        except config.ConfigException as error:
            raise SettingsError(
                f"no Kubernetes cluster is configured ({error}): set KUBECONFIG, or run inside a pod"
            ) from error
    configuration.retries = False  # patience is ours: urllib3's would also repeat what must not be repeated
    return client.ApiClient(configuration)


def patiently(call: Callable[[], Answer], tries: int = _TRIES, first_wait_s: float = 0.5) -> Answer:
    """Make a call that may be repeated; wait and repeat while the server is busy, away or says 5xx.

    A `Retry-After` is kept to; else the wait doubles from `first_wait_s`.

    Raises:
        ApiException: any other answer, or the last of `tries`.
        OSError: no connection could be made, `tries` times.
    """
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    for attempt in range(1, tries + 1):
        wait_s = first_wait_s * 2 ** (attempt - 1)
        try:
            return call()
        except ApiException as error:
            if error.status not in _PASSES or attempt == tries:
                raise
            wait_s = _retry_after_s(error, wait_s)
            _log.info("the Kubernetes API says %d %s; again in %.1f s", error.status, error.reason, wait_s)
        except HTTPError as error:
            if attempt == tries:
                raise OSError(f"the Kubernetes API does not answer: {error}") from error
            _log.info("the Kubernetes API does not answer; again in %.1f s", wait_s)
        time.sleep(wait_s)
    raise AssertionError("tries must be at least 1")


def in_words(error: Exception, doing: str) -> str:
    """A sentence about a failed call that ends with what to do."""
    import json

    status = int(getattr(error, "status", 0) or 0)
    if not status:
        return f"{doing}: {error}; is the API server reachable from here?"
    try:
        said = str(json.loads(getattr(error, "body", "") or "{}").get("message") or "")
    except ValueError:
        said = ""
    said = said or str(getattr(error, "reason", ""))
    remedy = _REMEDIES.get(status, "ask again later, or look at the API server's log")
    return f"{doing}: the Kubernetes API says {status}, {said}; {remedy}"


def _retry_after_s(error: ApiException, otherwise_s: float) -> float:
    try:
        return min(30.0, float((error.headers or {}).get("Retry-After", otherwise_s)))
    except ValueError:
        return otherwise_s
