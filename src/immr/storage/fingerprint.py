"""Content hashes, which name everything that is computed once and reused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def of_bytes(content: bytes | memoryview) -> str:
    """SHA-256 of bytes, hex."""
    return hashlib.sha256(content).hexdigest()


def of_file(path: Path) -> str:
    """SHA-256 of a file's content, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_values(*values: Any) -> str:
    """SHA-256 of nested plain values and dataclasses, independent of key order; hex.

    Raises:
        TypeError: a value of another type, whose hash would depend on its address.
    """
    return of_bytes(_json(values))


def of_many(before: Sequence[Any], many: Iterable[Any], after: Sequence[Any]) -> str:
    """`of_values(*before, [*many], *after)`, without holding all of them.

    Raises:
        TypeError: as `of_values`.
    """
    digest = hashlib.sha256()
    for start, values, end in (("[", before, ", ["), ("", many, "]"), (", " if after else "", after, "]")):
        digest.update(start.encode())
        for number, value in enumerate(values):
            digest.update((", " if number else "").encode() + _json(value))
        digest.update(end.encode())
    return digest.hexdigest()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, default=_plain, ensure_ascii=False).encode()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"cannot fingerprint a {type(value).__name__}")
