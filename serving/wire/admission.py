"""How much work is let in at once: a bounded queue of requests that are here whole; the rest comes later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.wire.problems import RETRY_AFTER_S, ProblemError, problem_response

UNDER_WAY_PER_CORE = 8
"""Of a Bento: enough to keep its cores busy; more would only wait, for longer than a gateway does."""
RECEIVE_TIMEOUT_S = 20.0


class Admission:
    """ASGI: on the paths where work is done, answers 429 while as many requests as allowed are under way.

    A request takes its place once its body is here, so that slow senders hold up no one; one that takes
    longer to send than `receive_timeout_s` gets a 408.
    """

    def __init__(
        self,
        app: ASGIApp,
        is_work: Callable[[Scope], bool],
        max_under_way: int,
        receive_timeout_s: float = RECEIVE_TIMEOUT_S,
    ) -> None:
        self._app = app
        self._is_work = is_work
        self._max_under_way = max_under_way
        self._receive_timeout_s = receive_timeout_s
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or not self._is_work(scope):
            await self._app(scope, receive, send)
            return
        if self._under_way >= self._max_under_way:  # what is still to come of it is not read
            await problem_response(too_many(), scope["path"])(scope, receive, send)
            return
        try:
            body = await self._whole_body(receive)
        except ProblemError as error:
            await problem_response(error, scope["path"])(scope, receive, send)
            return
        if self._under_way >= self._max_under_way:
            await problem_response(too_many(), scope["path"])(scope, receive, send)
            return
        self._under_way += 1
        try:
            await self._app(scope, _replayed(body, receive), send)
        finally:
            self._under_way -= 1

    async def _whole_body(self, receive: Receive) -> bytes:
        parts = []
        try:
            async with asyncio.timeout(self._receive_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        # nobody reads this, but BentoML keeps a request for a minute that gets no answer
                        raise ProblemError(400, "the body ended before it was whole")
                    parts.append(message.get("body", b""))
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError as error:
            detail = f"the body was not here after {self._receive_timeout_s:g} s: send it faster, or less"
            raise ProblemError(408, detail, headers={"Connection": "close"}) from error
        except HTTPException as error:  # the body limit
            raise ProblemError(error.status_code, str(error.detail)) from error


def posts(path: str) -> Callable[[Scope], bool]:
    """Whether a request posts to this path."""
    return lambda scope: scope["method"] == "POST" and scope["path"] == path


def _replayed(body: bytes, receive: Receive) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed


def too_many() -> ProblemError:
    """429 with Retry-After."""
    return ProblemError(
        429,
        "more is asked than can be answered now: try again in a moment",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )
