"""How the gateway passes on who searches, which a Bento cannot read in the gateway's cookie."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote

from immr.events.query_ids import user_key
from serving.wire.problems import ProblemError
from serving.wire.schemas import MAX_USER_CHARS, USER_HEADER, USER_KEY_HEADER

_USER_KEY = re.compile(r"[0-9a-f]{0,8}")


def user_headers(user_id: str) -> dict[str, str]:
    """The headers with a user's id and key; headers are ASCII, and ids need not be."""
    return {USER_KEY_HEADER: user_key(user_id), USER_HEADER: quote(user_id, safe="", errors="replace")}


def user_of(headers: Mapping[str, str]) -> tuple[str, str]:
    """The user's id and key, both empty for a search without a gateway.

    Raises:
        ProblemError: 422 if the headers are not a gateway's.
    """
    key, user_id = headers.get(USER_KEY_HEADER, ""), unquote(headers.get(USER_HEADER, ""))
    if not _USER_KEY.fullmatch(key):
        raise ProblemError(422, f"{USER_KEY_HEADER} is set by the gateway. Do not send it.")
    if len(user_id) > MAX_USER_CHARS:
        raise ProblemError(422, f"{USER_HEADER} is set by the gateway. Send the field user_id instead.")
    return user_id, key
