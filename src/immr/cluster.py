"""The Kubernetes API: where it is, patience with it, and its errors in words."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from immr.errors import SettingsError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient
    from kubernetes.client.exceptions import ApiException

_log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

CALL_TIMEOUT_S = 30.0
_TRIES = 6
_PASSES = (429, 500, 502, 503, 504)  # what an API server says when it may say something else soon
_REMEDIES = {
    401: "the credentials are not valid (any more): log in again, or look at the ServiceAccount's token",
    403: "the ServiceAccount may not do that: compare its Role with k8s/base",
    404: "no such object or no such kind: is the operator installed? `immr doctor --cluster` tells",
    409: "another one of that name is in the way",
}


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
