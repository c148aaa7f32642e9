"""Which version is ready at an address, according to its own /health/ready."""

from __future__ import annotations

import json
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener


def not_ready_because(url: str, version_id: str | None = None, timeout_s: float = 2.0) -> str | None:
    """Why this version is not ready at this address; None if it is."""
    served, reason = served_at(url, timeout_s)
    if reason is None and version_id not in (None, served):
        return f"{served or 'an unnamed version'} serves there"
    return reason


def served_at(url: str, timeout_s: float = 2.0) -> tuple[str, str | None]:
    """The version that is ready at this address, or an empty string and the reason."""
    opener = build_opener(ProxyHandler({}))  # no proxy between processes of one machine
    try:
        with opener.open(f"{url}/health/ready", timeout=timeout_s) as answer:
            return str(_json(answer.read()).get("model_version", "")), None
    except HTTPError as error:
        with error:
            return "", str(_json(error.read()).get("detail", f"status {error.code}"))
    except (URLError, OSError) as error:
        return "", f"no answer: {getattr(error, 'reason', error)}"


def _json(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
