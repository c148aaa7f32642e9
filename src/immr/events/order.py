"""Which events keep their order: those of one query, and of one user where the ids of her queries say so.

A click knows its query and no user, and any gateway may take it, also one that was started since. So an id
ends in a key that all queries of its user share: whoever takes the click finds it there.
"""

from __future__ import annotations

import hashlib
import uuid

_KEY_CHARS = 4  # hex digits: far more keys than partitions, and far fewer than users


def user_key(user_id: str) -> str:
    """What the ids of this user's queries end in; it is other users' too, and tells nobody apart.

    Nothing where there is no user.
    """
    return user_id and hashlib.sha256(user_id.encode("utf-8", "replace")).hexdigest()[:_KEY_CHARS]


def new_query_id(user_key: str = "") -> str:
    """An id for a query, of the user with this key where one is given."""
    return f"{uuid.uuid4().hex}-{user_key}" if user_key else uuid.uuid4().hex


def order_key(query_id: str) -> str:
    """Events of queries with the same key keep their order: the user's key, or the id where it has none."""
    return query_id.rpartition("-")[2]
