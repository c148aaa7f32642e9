"""Clients of a Qdrant server whose requests survive a peer that stops, restarts or is lost with its node.

A connection stays with one peer. When that peer stops, requests on the connection fail, although another peer
would answer.
"""

from __future__ import annotations

import re
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

    def send(request: Request, send: _Send) -> Response:
        return _send(request, send, timeout_s, searches)

    client.http.client.add_middleware(send)
    return client


def _send(request: Request, send: _Send, timeout_s: float, searches: bool) -> Response:
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
    if is_search and searches:
        timeout = httpx.Timeout(
            min(timeout_s, _SEARCH_TIMEOUT_S), connect=min(timeout_s, _SEARCH_CONNECT_TIMEOUT_S)
        )
        failures += (httpx.TimeoutException,)
    request.extensions["timeout"] = timeout.as_dict()
    started = time.monotonic()
    for _ in range(_TRIES - 1):
        try:
            return send(request)
        except ResponseHandlingException as error:
            if not isinstance(error.source, failures) or time.monotonic() - started > _LAST_TRY_S:
                raise
    return send(request)
