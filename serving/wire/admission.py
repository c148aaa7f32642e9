"""Admission control: a bounded number of requests in progress, and bounded memory for those that arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.wire.problems import RETRY_AFTER_S, ProblemError, problem_response

IN_PROGRESS_PER_CORE = 8
"""In a Bento: enough to keep its cores busy. More would wait longer than the gateway's timeout."""
RECEIVE_TIMEOUT_S = 20.0
MAX_ARRIVING_BYTES = 128 * 2**20
"""Of all incomplete bodies together; one may have 10 MB."""


class ArrivingBodies:
    """Bounds the total size of incomplete bodies. Several `Admission`s may share one."""

    def __init__(self, max_bytes: int = MAX_ARRIVING_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0

    def hold(self, size: int) -> None:
        """Counts the next part of an incomplete body.

        Raises:
            ProblemError: 429 if there is no room for it.
        """
        if self._bytes + size > self._max_bytes:
            raise too_many_requests()
        self._bytes += size

    def release(self, size: int) -> None:
        """Stops counting the parts of a body that is complete or refused."""
        self._bytes -= size


class Admission:
    """ASGI middleware: answers 429 while as many requests as allowed are in progress.

    A request counts once its body has arrived, so slow senders do not take places. One that takes longer than
    `receive_timeout_s` to arrive gets a 408. If the incomplete bodies take too much memory, the one that
    grows gets a 429.
    """

    def __init__(
        self,
        app: ASGIApp,
        applies_to: Callable[[Scope], bool],
        max_in_progress: int,
        receive_timeout_s: float = RECEIVE_TIMEOUT_S,
        arriving: ArrivingBodies | None = None,
    ) -> None:
        """`applies_to` selects the requests that are counted; all others pass."""
        self._app = app
        self._applies_to = applies_to
        self._max_in_progress = max_in_progress
        self._receive_timeout_s = receive_timeout_s
        self._arriving = arriving or ArrivingBodies()
        self._in_progress = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http" or not self._applies_to(scope):
            await self._app(scope, receive, send)
            return
        try:
            self._refuse_if_full()  # before the body is read
            body = await self._read_body(receive)
            self._refuse_if_full()
        except ProblemError as error:
            await problem_response(error, scope["path"])(scope, receive, send)
            return
        self._in_progress += 1
        try:
            await self._app(scope, _replay(body, receive), send)
        finally:
            self._in_progress -= 1

    def _refuse_if_full(self) -> None:
        if self._in_progress >= self._max_in_progress:
            raise too_many_requests()

    async def _read_body(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        held = 0
        try:
            async with asyncio.timeout(self._receive_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        # nobody reads this answer, but BentoML keeps an unanswered request for a minute
                        raise ProblemError(400, "The connection was closed before the body was complete.")
                    part = message.get("body", b"")
                    if not message.get("more_body"):
                        return b"".join([*parts, part])
                    self._arriving.hold(len(part))
                    held += len(part)
                    parts.append(part)
        except TimeoutError as error:
            detail = (
                f"The body did not arrive within {self._receive_timeout_s:g} s. Send it faster, or send less."
            )
            raise ProblemError(408, detail, headers={"Connection": "close"}) from error
        finally:
            self._arriving.release(held)


def posts_to(path: str) -> Callable[[Scope], bool]:
    """Selects POST requests to this path."""
    return lambda scope: scope["method"] == "POST" and scope["path"] == path


def too_many_requests() -> ProblemError:
    """429 with Retry-After."""
    return ProblemError(
        429,
        "The service is at capacity. Try again in a moment.",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


def _replay(body: bytes, receive: Receive) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed
