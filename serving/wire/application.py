"""The FastAPI application that gateway and Bento build on: bounded bodies, problem responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.wire.problems import ProblemError, answer_with_problems, problem_response

MAX_BODY_BYTES = 10 * 1024 * 1024
JSON = "application/json"
_COMPRESSED = frozenset({b"gzip", b"x-gzip", b"deflate", b"compress", b"br", b"zstd"})


def require_json(request: Request) -> None:
    """Checks the content type of events.

    Raises:
        ProblemError: 415 if it is neither JSON nor text/plain, the type of what `navigator.sendBeacon` sends.
    """
    given = request.headers.get("content-type", "")
    if media_type(given) not in (JSON, "text/plain"):
        raise ProblemError(415, f"The content type is {given[:100]!r}. Send events as application/json.")


def media_type(content_type: str) -> str:
    """The media type of a Content-Type header, without its parameters."""
    return content_type.split(";")[0].strip().lower()


class BodyLimit:
    """ASGI middleware: refuses a body over the limit by its Content-Length, or by counting without one.

    A compressed body is refused, too, because nothing here decompresses it.
    """

    def __init__(self, app: ASGIApp, max_bytes: int = MAX_BODY_BYTES) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if codings := _compressions(scope):
            detail = f"The body is compressed ({', '.join(codings)}). Send it uncompressed."
            await problem_response(ProblemError(415, detail), scope["path"])(scope, receive, send)
            return
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_bytes:
            await problem_response(self._too_large(), scope["path"])(scope, receive, send)
            return
        seen_bytes = 0

        async def counted() -> Message:
            nonlocal seen_bytes
            message = await receive()
            seen_bytes += len(message.get("body", b""))
            if seen_bytes > self._max_bytes:
                raise self._too_large()
            return message

        await self._app(scope, counted, send)

    def _too_large(self) -> ProblemError:
        limit_mb = self._max_bytes / 1024 / 1024
        return ProblemError(413, f"The request is larger than {limit_mb:g} MB. Send a smaller photo.")


def _compressions(scope: Scope) -> list[str]:
    """How the body is compressed: a header may name several, and there may be several headers."""
    values = (value for name, value in scope["headers"] if name == b"content-encoding")
    codings = (coding.strip().lower() for value in values for coding in value.split(b","))
    return [coding.decode() for coding in codings if coding in _COMPRESSED]


class WholeFiles:
    """ASGI middleware: answers with a whole file where a part of it is requested (RFC 9110, section 14.2).

    The gateway does so anyway, and Starlette's errors about ranges are not problems.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] == "http" and any(name == b"range" for name, _ in scope["headers"]):
            headers = [each for each in scope["headers"] if each[0] != b"range"]
            scope = {**scope, "headers": headers}
        await self._app(scope, receive, send)


def create_app(
    title: str,
    description: str,
    inner: Sequence[Middleware] = (),
    protection: Sequence[Middleware] = (),
    **options: Any,
) -> FastAPI:
    """Creates an application that answers every error with problem+json and bounds every body.

    Args:
        title: For the OpenAPI document.
        description: For the OpenAPI document.
        inner: Middleware behind the body limit.
        protection: Middleware in front of everything else.
        options: Passed to FastAPI.
    """
    from immr import __version__

    app = FastAPI(title=title, description=description, version=__version__, **options)
    for middleware in (*inner, Middleware(WholeFiles), Middleware(BodyLimit), *protection):
        app.add_middleware(middleware.cls, *middleware.args, **middleware.kwargs)
    answer_with_problems(app)
    return app
