"""CORS: which pages of other origins may call the API from a browser."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from immr.errors import SettingsError
from serving.wire.schemas import VARIANT_HEADER

EVERY_ORIGIN = "*"
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:\d{1,5})?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_PREFLIGHT_AGE_S = 3600
_NAMED = 20
log = logging.getLogger(__name__)


def cors(origins: str) -> Middleware:
    """Middleware that lets pages of these origins read answers.

    Browsers send no cookies along, so that no other page can search in a visitor's name: pages send `user_id`.

    Args:
        origins: separated by commas, like `https://shop.example`; `*` is every origin. Capital letters, a default
            port and a slash at the end, which browsers never send, make no difference.

    Raises:
        SettingsError: An entry is not an origin.
    """
    listed = _listed(origins)
    for origin in listed:
        if origin != EVERY_ORIGIN and not _ORIGIN.fullmatch(origin):
            raise SettingsError(
                f"IMMR_CORS_ORIGINS has {origin!r}, which is not an origin. Write origins like "
                "https://shop.example, separated by commas, or * for all."
            )
    options: dict[str, Any] = {
        "allow_origins": listed,
        "allow_methods": ["GET", "HEAD", "POST"],
        "allow_headers": ["authorization", "content-type", VARIANT_HEADER],
        "expose_headers": ["retry-after", "server-timing"],
        "max_age": _PREFLIGHT_AGE_S,
    }
    return Middleware(CORSMiddleware, **options)


class NameOtherOrigins:
    """Logs each origin that calls without being listed, once: otherwise only the browser's console shows it.

    Anyone can make up origins, so only the first ones are logged.
    """

    def __init__(self, app: ASGIApp, origins: str = "") -> None:
        """`origins` may call the application, as for `cors`."""
        self._app = app
        self._listed = _listed(origins)
        self._named: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] == "http" and (origin := Headers(scope=scope).get("origin")):
            self._name(origin, Headers(scope=scope).get("host", ""))
        await self._app(scope, receive, send)

    def _name(self, origin: str, host: str) -> None:
        if origin in self._named or len(self._named) >= _NAMED or not _ORIGIN.fullmatch(origin):
            return
        own = _as_sent(f"{origin.partition('://')[0]}://{host}")
        if origin == own or {origin, EVERY_ORIGIN} & {*self._listed}:
            return
        self._named.add(origin)
        log.warning(
            "a page of %s calls %s, and browsers keep the answers from it (unless a proxy serves both at one "
            "address): to allow it, start with IMMR_CORS_ORIGINS=%s",
            origin,
            host,
            ",".join([*self._listed, origin]),
        )


def _listed(origins: str) -> Sequence[str]:
    return [_as_sent(origin.strip()) for origin in origins.split(",") if origin.strip()]


def _as_sent(origin: str) -> str:
    """As a browser writes it."""
    plain = origin.lower().removesuffix("/")
    return plain.removesuffix(_DEFAULT_PORTS.get(plain.partition("://")[0], "\0"))
