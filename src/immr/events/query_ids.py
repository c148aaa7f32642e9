"""Query ids, which end in a key derived from the user so that a user's events keep their order.

A click carries only its query's id, and any gateway may receive it, even one that started later. The key at
the end of the id tells every gateway which Kafka partition the user's events belong to.
"""

from __future__ import annotations

import hashlib
import uuid

ANONYMOUS = "anonymous-"
"""Together with the query's id, stands in for the user id of a search that has none."""
_KEY_CHARS = 4  # hex digits: many more keys than partitions, but too few to identify a user


def user_key(user_id: str) -> str:
    """The key of a user; many users share it. Empty for an empty user id."""
    return user_id and hashlib.sha256(user_id.encode("utf-8", "replace")).hexdigest()[:_KEY_CHARS]


def new_query_id(user_key: str = "") -> str:
    """A new query id, with the key of its user if there is one."""
    return f"{uuid.uuid4().hex}-{user_key}" if user_key else uuid.uuid4().hex


def order_key(query_id: str) -> str:
    """Events with the same order key keep their order: the user's key, or the whole id if it has none."""
    return query_id.rpartition("-")[2]
