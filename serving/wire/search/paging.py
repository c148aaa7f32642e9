"""Page tokens: a search and its position, signed, so that only genuine tokens are answered.

A token carries the query's embedding, so the photo is neither sent, stored nor encoded again. It is valid for
the model version that issued it.
"""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from immr.search.grouping import FINGERPRINT_BYTES
from immr.search.pages import Cursor, Wanted
from immr.types import Condition, Filters, FloatArray
from serving.wire.problems import ProblemError

_FORMAT = 4
_CONTEXT = b"immr page 1:"  # keeps signatures of page tokens and click tokens apart: they share the keys
_REMEDY = "Send the `next_page` of an answer unchanged, or start a new search."


@dataclass(frozen=True)
class Page:
    """A page of an answer."""

    model_version: str
    number: int  # from 0
    wanted: Wanted
    cursor: Cursor
    embedding_D: FloatArray | None  # None for words alone


def sign(page: Page, key: bytes) -> str:
    """The page as a token, safe in JSON and in forms."""
    groups = _encode(b"".join(sorted(page.cursor.groups)))
    fields = [
        _FORMAT,
        page.model_version,
        page.number,
        _values(page.wanted),
        [page.cursor.start, page.cursor.place, groups, page.cursor.elsewhere],
    ]
    embedding = "" if page.embedding_D is None else _encode(page.embedding_D.astype("<f4").tobytes())
    payload = f"{_encode(json.dumps(fields, ensure_ascii=False).encode())}.{embedding}"
    return f"{payload}.{_signature(payload, key)}"


def read(token: str, keys: Sequence[bytes], model_version: str) -> Page:
    """The page that a token stands for.

    Raises:
        ProblemError: 400 if the token was not issued by this service, or by another model version or release.
    """
    payload = _payload(token, keys)
    if payload is None:
        raise ProblemError(400, f"This page token was not issued by this service. {_REMEDY}")
    head, _, embedding = payload.partition(".")
    token_format, version, *fields = json.loads(_decode(head))
    if token_format != _FORMAT:
        raise ProblemError(400, f"The page token is from another release of IMMR. {_REMEDY}")
    if version != model_version:
        raise ProblemError(
            400, f"The page token is from {version}, but {model_version} answers now. {_REMEDY}"
        )
    number, wanted, (start, place, groups, elsewhere) = fields
    return Page(
        version,
        number,
        _wanted(wanted),
        Cursor(start, place, _fingerprints(_decode(groups)), elsewhere),
        np.frombuffer(_decode(embedding), dtype="<f4") if embedding else None,
    )


def _values(wanted: Wanted) -> list[Any]:
    """The fields as JSON values; written out, because `asdict` copies every value."""
    filters = wanted.filters
    return [
        wanted.k,
        wanted.group_by,
        wanted.text,
        wanted.members,
        [filters.category, filters.price_min, filters.price_max, filters.exclude],
        [[each.name, each.values, each.ranges, each.negated] for each in filters.conditions],
    ]


def _wanted(values: Sequence[Any]) -> Wanted:
    k, group_by, text, members, (category, price_min, price_max, exclude), conditions = values
    filters = Filters(
        category,
        price_min,
        price_max,
        exclude,
        tuple(
            Condition(name, tuple(values), tuple((low, high) for low, high in ranges), negated)
            for name, values, ranges, negated in conditions
        ),
    )
    return Wanted(k, filters, group_by, text, members)


def _fingerprints(content: bytes) -> frozenset[bytes]:
    size = FINGERPRINT_BYTES
    return frozenset(content[start : start + size] for start in range(0, len(content), size))


def version_of(token: str, keys: Sequence[bytes]) -> str | None:
    """The model version that issued a token; None if this service did not sign it."""
    payload = _payload(token, keys)
    if payload is None:
        return None
    token_format, version, *_ = json.loads(_decode(payload.partition(".")[0]))
    return str(version) if token_format == _FORMAT else None


def _payload(token: str, keys: Sequence[bytes]) -> str | None:
    """The signed part of a token; None if no key matches the signature."""
    payload, _, signature = token.rpartition(".")
    given = signature.encode("utf-8", "surrogatepass")
    # try every key, so that the time taken does not reveal which one signed
    matches = [hmac.compare_digest(_signature(payload, key).encode(), given) for key in keys]
    return payload if any(matches) else None


def _signature(payload: str, key: bytes) -> str:
    return _encode(hmac.digest(key, _CONTEXT + payload.encode("utf-8", "surrogatepass"), "sha256")[:16])


def _encode(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
