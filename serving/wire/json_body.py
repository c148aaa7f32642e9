"""Reads JSON bodies: one verdict on malformed JSON and repeated keys for every route."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from serving.wire.problems import ProblemError


def read_json(body: bytes) -> Any:
    """Parses a body.

    Raises:
        ProblemError: 400 if it is not valid UTF-8 JSON, 422 if an object repeats a key.
    """
    try:
        return json.loads(body, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ProblemError(400, "The body is not valid JSON. Send UTF-8 encoded JSON.") from error


def repeated(field: str) -> ProblemError:
    """422: the field occurs more than once."""
    return ProblemError(422, f"The field {field[:100]!r} occurs more than once. Send it once.")


def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object's members, for `json.loads`.

    Raises:
        ProblemError: 422 if a key is repeated.
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise repeated(name)
        found[name] = value
    return found
