"""Retries of Kubernetes API calls, and their errors as sentences."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from immr.errors import ImmrError

if TYPE_CHECKING:
    from kubernetes.client.exceptions import ApiException

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

CALL_TIMEOUT_S = 30.0
PATIENCE_S = 15.0
"""How long a call is retried: long enough for a busy server, short if the address is wrong."""
LONG_PATIENCE_S = 600.0
"""The same while waiting for an object to become ready, which must survive an outage of minutes."""
WEBHOOK_PATIENCE_S = 180.0
"""The same while an operator's webhook does not answer: it is rolled out, or moves to another node."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 15.0
_TRANSIENT = (429, 500, 502, 503, 504)
_REMEDIES = {
    401: "the credentials are invalid or expired: log in again, or check the ServiceAccount's token",
    403: "the ServiceAccount may not do that: compare its Role with k8s/base",
    404: "the object or its kind does not exist: is the operator installed? Run `immr doctor --cluster`",
    409: "another object with this name exists",
    422: "the field it names comes from IMMR_LAUNCH_URL or IMMR_DEPLOY_URL: correct it there",
}


def retried(
    call: Callable[[], Answer], patience_s: float = PATIENCE_S, first_wait_s: float = _FIRST_WAIT_S
) -> Answer:
    """Make an idempotent call; retry while the server is busy, unreachable or answers 5xx.

    The pause doubles from `first_wait_s` up to 15 s; a `Retry-After` header takes precedence. If an operator's
    webhook does not answer, the call is retried for `WEBHOOK_PATIENCE_S`.

    Raises:
        ApiException: The API refused, or still answered with a transient error after `patience_s`.
        OSError: No connection could be made in that time.
    """
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    began, wait_s = time.monotonic(), first_wait_s
    deadline = began + patience_s
    while True:
        pause_s = wait_s
        try:
            return call()
        except ApiException as error:
            pause_s = _retry_after_s(error, wait_s)
            if without_webhook := "failed calling webhook" in str(error.body):
                deadline = max(deadline, began + WEBHOOK_PATIENCE_S)
            if error.status not in _TRANSIENT or time.monotonic() + pause_s > deadline:
                raise
            if without_webhook and wait_s == first_wait_s:
                log.warning("%s", describe(error, "waiting for an operator"))
            log.info(
                "the Kubernetes API returned %d %s; retrying in %.1f s", error.status, error.reason, pause_s
            )
        except HTTPError as error:
            if time.monotonic() + pause_s > deadline:
                raise OSError(f"the Kubernetes API does not answer: {error}") from error
            log.warning("the Kubernetes API does not answer; retrying in %.1f s", pause_s)
        time.sleep(pause_s)
        wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


@contextmanager
def api_errors_as(raised: type[ImmrError], doing: str) -> Iterator[None]:
    """Raise a failed API call as `raised`, with a sentence that ends with what to do."""
    from kubernetes.client.exceptions import ApiException

    try:
        yield
    except (ApiException, OSError) as error:
        raise raised(describe(error, doing)) from error


def describe(error: Exception, doing: str) -> str:
    """A failed call as a sentence that ends with what to do."""
    status = int(getattr(error, "status", 0) or 0)
    if not status:
        return f"{doing}: {error}; can this machine reach the API server?"
    try:
        message = str(json.loads(getattr(error, "body", "") or "{}").get("message") or "")
    except ValueError:
        message = ""
    message = message or str(getattr(error, "reason", ""))
    remedy = _REMEDIES.get(status, "try again later, or check the API server's log")
    if "failed calling webhook" in message:
        remedy = "is the operator that this webhook belongs to running?"
    if "admission webhook" in message:  # which also answers 403
        remedy = "correct or install what it names; `immr doctor --cluster` lists what is missing"
    return f"{doing}: the Kubernetes API answers {status}, {message}; {remedy}"


def _retry_after_s(error: ApiException, otherwise_s: float) -> float:
    try:
        return min(30.0, float((error.headers or {}).get("Retry-After", otherwise_s)))
    except ValueError:
        return otherwise_s
