"""Which version is ready at an address, according to its own /health/ready."""

from __future__ import annotations

import json
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener


def not_ready_because(
    url: str, version_id: str | None = None, timeout_s: float = 2.0, home_id: str = ""
) -> str | None:
    """Why this version is not ready at this address; None if it is.

    Args:
        url: The address.
        version_id: The version that has to serve there; None for any.
        timeout_s: How long to wait for an answer.
        home_id: The `Settings.home_id` that the version has to serve for; empty for any.
    """
    answer, reason = _ready(url, timeout_s)
    if reason is not None:
        return reason
    served = str(answer.get("model_version", ""))
    if version_id not in (None, served):
        return f"{served or 'an unnamed version'} serves there"
    if home_id and answer.get("home", home_id) != home_id:
        return f"{served} of another IMMR_HOME serves there"
    return None


def _ready(url: str, timeout_s: float) -> tuple[dict[str, Any], str | None]:
    """The answer of a version that is ready; else an empty one, and the reason."""
    opener = build_opener(ProxyHandler({}))  # no proxy between processes of one machine
    try:
        with opener.open(f"{url}/health/ready", timeout=timeout_s) as answer:
            return _json(answer.read()), None
    except HTTPError as error:
        with error:
            return {}, str(_json(error.read()).get("detail", f"status {error.code}"))
    except (URLError, HTTPException, OSError) as error:
        return {}, f"no answer: {getattr(error, 'reason', error)}"


def _json(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
