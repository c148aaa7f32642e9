"""Anonymous visitors: a random id in a signed cookie, so that nobody can choose a variant."""

from __future__ import annotations

import hmac
import re
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Sequence

COOKIE = "immr_user"
COOKIE_AGE_S = 365 * 24 * 3600
_FORMAT = re.compile(r"([0-9a-f]{32})\.([A-Za-z0-9_-]{22})")
_CONTEXT = b"immr visitor 1:"  # keeps signatures of cookies and click tokens apart: they share the keys


def new_visitor() -> str:
    """A random id."""
    return uuid.uuid4().hex


def signed(visitor: str, key: bytes) -> str:
    """The cookie's value."""
    return f"{visitor}.{_signature(visitor, key)}"


def visitor_of(cookie: str, keys: Sequence[bytes]) -> tuple[str, bool]:
    """The id in a cookie, and whether the newest key signed it; an empty id if the cookie is not ours."""
    if not (match := _FORMAT.fullmatch(cookie)):
        return "", False
    visitor, signature = match[1], match[2]
    # try every key, so that the time taken does not reveal which one signed
    matches = [hmac.compare_digest(_signature(visitor, key), signature) for key in keys]
    return (visitor, matches[0]) if any(matches) else ("", False)


def _signature(visitor: str, key: bytes) -> str:
    return urlsafe_b64encode(hmac.digest(key, _CONTEXT + visitor.encode(), "sha256")[:16])[:22].decode()
