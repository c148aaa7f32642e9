"""CORS: which pages of other origins may call the API from a browser."""

from __future__ import annotations

import re
from typing import Any

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from immr.errors import SettingsError
from serving.wire.schemas import VARIANT_HEADER

EVERY_ORIGIN = "*"
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:\d{1,5})?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_PREFLIGHT_AGE_S = 3600


def cors(origins: str) -> Middleware:
    """Middleware that lets pages of these origins read answers.

    Browsers send no cookies along, so that no other page can search in a visitor's name: pages send `user_id`.

    Args:
        origins: separated by commas, like `https://shop.example`; `*` is every origin. Capital letters, a default
            port and a slash at the end, which browsers never send, make no difference.

    Raises:
        SettingsError: one of them is not an origin.
    """
    listed = [_as_sent(origin.strip()) for origin in origins.split(",") if origin.strip()]
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


def _as_sent(origin: str) -> str:
    """As a browser writes it."""
    plain = origin.lower().removesuffix("/")
    return plain.removesuffix(_DEFAULT_PORTS.get(plain.partition("://")[0], "\0"))
