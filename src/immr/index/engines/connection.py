"""Clients of a Qdrant server whose requests survive a peer that stops, restarts or is lost with its node.

A connection stays with one peer. When that peer stops, requests on the connection fail, although another peer
would answer.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from httpx import Request, Response
    from qdrant_client import QdrantClient

REQUEST_TIMEOUT_S = 30
"""Qdrant waits 20 s for a peer that is down before it answers that a collection was created."""

_SEARCH_TIMEOUT_S = 2.0  # the gateway waits 3 s for a variant, so there is time for another peer
_SEARCH_CONNECT_TIMEOUT_S = 0.5
_CONNECT_TIMEOUT_S = 5.0
_LAST_TRY_S = 2.5
_TRIES = 3
_TIMEOUTS_AT_ONCE, _TIMEOUTS_PER_ANSWER = 10.0, 0.1

_SEARCH = re.compile(r".*/collections/[^/]+/(points|points/(query|scroll|count)|facet)")
_COLLECTION = re.compile(r".*/collections/[^/]+")

_Send = Callable[["Request"], "Response"]


def connect(url: str, timeout_s: float, headers: dict[str, str] | None, searches: bool) -> QdrantClient:
    """A client that has not sent a request yet.

    Args:
        url: Of the server.
        timeout_s: Timeout of a request.
        headers: Of each request.
        searches: Whether it is for shoppers' searches, which are given up earlier.
    """
    from qdrant_client import QdrantClient

    client = QdrantClient(url=url, timeout=round(timeout_s), headers=headers, check_compatibility=False)
    budget = RepeatBudget() if searches else None

    def send(request: Request, send: _Send) -> Response:
        return _send(request, send, timeout_s, budget)

    client.http.client.add_middleware(send)
    return client


class RepeatBudget:
    """How many searches may be repeated after a timeout: one for ten answers, but ten at once. Thread safe.

    An overloaded server answers late, too, and would get every search twice.
    """

    def __init__(self) -> None:
        self._left = _TIMEOUTS_AT_ONCE
        self._lock = threading.Lock()

    def answered(self) -> None:
        """A search was answered."""
        with self._lock:
            self._left = min(self._left + _TIMEOUTS_PER_ANSWER, _TIMEOUTS_AT_ONCE)

    def take(self) -> bool:
        """Whether a search that got no answer in time may be repeated."""
        with self._lock:
            allowed = self._left >= 1
            self._left -= allowed
        return allowed


def _send(request: Request, send: _Send, timeout_s: float, budget: RepeatBudget | None) -> Response:
    """Repeat a request whose connection failed, if that cannot do harm.

    Raises:
        ResponseHandlingException: The last try failed.
    """
    import httpx
    from qdrant_client.http.exceptions import ResponseHandlingException

    is_search = request.method == "POST" and _SEARCH.fullmatch(request.url.path) is not None
    timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_TIMEOUT_S))
    failures: tuple[type[Exception], ...] = (httpx.ConnectError, httpx.ConnectTimeout)
    if is_search or not (request.method == "PUT" and _COLLECTION.fullmatch(request.url.path)):
        failures += (httpx.NetworkError, httpx.RemoteProtocolError)
    if not is_search:
        budget = None
    if budget:
        timeout = httpx.Timeout(
            min(timeout_s, _SEARCH_TIMEOUT_S), connect=min(timeout_s, _SEARCH_CONNECT_TIMEOUT_S)
        )
        failures += (httpx.TimeoutException,)
    request.extensions["timeout"] = timeout.as_dict()
    started = time.monotonic()
    for left in reversed(range(_TRIES)):
        try:
            response = send(request)
        except ResponseHandlingException as error:
            late = time.monotonic() - started > _LAST_TRY_S
            if not left or late or not isinstance(error.source, failures):
                raise
            if budget and isinstance(error.source, httpx.TimeoutException) and not budget.take():
                raise
        else:
            if budget:
                budget.answered()
            return response
    raise AssertionError("the last try returns or raises")
