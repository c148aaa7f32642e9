"""HEAD and OPTIONS for every path, as RFC 9110 defines them; FastAPI has neither."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send


class HeadAndOptions:
    """ASGI middleware: HEAD is a GET whose body the server drops; OPTIONS lists a path's methods."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        method = scope.get("method")
        if method == "HEAD":
            scope = {**scope, "method": "GET"}
        elif method == "OPTIONS" and (allowed := _methods(scope)):
            await Response(status_code=204, headers={"Allow": ", ".join(allowed)})(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _methods(scope: Scope) -> list[str]:
    """The methods of a path in order; none if no route has it."""
    methods: set[str] = set()
    for route in scope["app"].routes:
        match, _ = route.matches(scope)
        if match is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    if "GET" in methods:
        methods.add("HEAD")
    return sorted({*methods, "OPTIONS"}) if methods else []
