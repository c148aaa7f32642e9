"""Users whose clicks never become features again: hashes of their ids, in a file of the repository's folder.

The event log still has their clicks, so without this list the next materialization would bring their features back.
The hashes have no salt, which would have to be kept beside them: whoever can read the file can check a guessed id.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow as pa

from immr.storage.atomic import write_atomically

FILE = "forgotten.json"


def add(folder: Path, user_id: str) -> None:
    """Add a user. Not safe for several writers at a time."""
    hashes = _hashes(folder) | {_hash(user_id)}
    write_atomically(folder / FILE, json.dumps(sorted(hashes)))


def without(folder: Path, users: pa.Table) -> pa.Table:
    """The rows of other users; the table has a column `user_id`."""
    hashes = _hashes(folder)
    if not hashes:
        return users
    return users.filter(
        pa.array([_hash(user) not in hashes for user in users["user_id"].to_pylist()], pa.bool_())
    )


def _hashes(folder: Path) -> set[str]:
    file = folder / FILE
    return set(json.loads(file.read_text())) if file.is_file() else set()


def _hash(user_id: str) -> str:
    return hashlib.sha256(user_id.encode("utf-8", "surrogatepass")).hexdigest()
