"""Which version is ready at an address, by what it answers itself."""

from __future__ import annotations

import json
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener


def not_ready_because(url: str, version_id: str | None = None, timeout_s: float = 2.0) -> str | None:
    """None when the service at this address is ready, and serves this version; else the reason."""
    there, reason = served_at(url, timeout_s)
    if reason is None and version_id not in (None, there):
        return f"{there or 'a version without a name'} serves there"
    return reason


def served_at(url: str, timeout_s: float = 2.0) -> tuple[str, str | None]:
    """The version that is ready at this address; or nothing, and what it says of the reason."""
    opener = build_opener(ProxyHandler({}))  # a proxy has no business between processes of one machine
    try:
        with opener.open(f"{url}/health/ready", timeout=timeout_s) as answer:
            return str(_told(answer.read()).get("model_version", "")), None
    except HTTPError as error:
        with error:
            return "", str(_told(error.read()).get("detail", f"status {error.code}"))
    except (URLError, OSError) as error:
        return "", f"no answer: {getattr(error, 'reason', error)}"


def _told(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
