"""An application as gateway and Bento have it: bodies within their limit, the right content types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.wire.problems import ProblemError, answer_with_problems, problem_response

MAX_BODY_BYTES = 10 * 1024 * 1024
JSON = "application/json"


async def require_json(request: Request) -> None:
    """Dependency: 415 for events that are not JSON."""
    given = request.headers.get("content-type", "")
    if media_type(given) != JSON:
        raise ProblemError(415, f"the content type is {given[:100]!r}: send the events as application/json")


def media_type(content_type: str) -> str:
    """Without its parameters."""
    return content_type.split(";")[0].strip().lower()


class BodyLimit:
    """ASGI: refuses a body over the limit by its Content-Length, or on the stream where there is none."""

    def __init__(self, app: ASGIApp, max_bytes: int = MAX_BODY_BYTES) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_bytes:
            await problem_response(self._too_large(), scope["path"])(scope, receive, send)
            return
        seen_bytes = 0

        async def counted() -> Message:
            nonlocal seen_bytes
            message = await receive()
            seen_bytes += len(message.get("body", b""))
            if seen_bytes > self._max_bytes:
                # FastAPI passes an HTTPException through its body parser, and turns any other into a 400
                raise HTTPException(413, self._too_large().problem.detail)
            return message

        await self._app(scope, counted, send)

    def _too_large(self) -> ProblemError:
        limit_mb = self._max_bytes / 1024 / 1024
        return ProblemError(413, f"the request is larger than {limit_mb:g} MB: send a smaller photo")


def create_app(
    title: str,
    description: str,
    inner: Sequence[Middleware] = (),
    protection: Sequence[Middleware] = (),
    **options: Any,
) -> FastAPI:
    """A FastAPI application whose every error is problem+json, with the body limit and a true OpenAPI.

    `inner` is middleware that sees bodies within their limit only; `protection` stands before all else.
    """
    from immr import __version__

    app = FastAPI(title=title, description=description, version=__version__, **options)
    for middleware in inner:
        app.add_middleware(middleware.cls, *middleware.args, **middleware.kwargs)
    app.add_middleware(BodyLimit)
    for middleware in protection:
        app.add_middleware(middleware.cls, *middleware.args, **middleware.kwargs)
    answer_with_problems(app)
    return app
