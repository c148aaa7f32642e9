"""The token of a next page: what was asked and how far it got, signed so that nobody else's is answered.

It carries the query's embedding, so that no photo has to be sent, kept or encoded again; it holds for the
model version that gave it.
"""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np

from immr.types import Filters, FloatArray
from serving.wire.problems import ProblemError

_FORMAT = 1
_CONTEXT = b"immr page 1:"  # a click token's signature is none of a page's, though the keys are the same
_REMEDY = "send the `next_page` of an answer back unchanged, or search anew"


@dataclass(frozen=True)
class Page:
    """The page of an answer that comes next."""

    model_version: str
    k: int
    number: int  # 0 is the first
    filters: Filters
    embedding_D: FloatArray


def sign(page: Page, key: bytes) -> str:
    """The page as a token, safe in JSON and in a form."""
    fields = [_FORMAT, page.model_version, page.k, page.number, *astuple(page.filters)]
    embedding = _encode(page.embedding_D.astype("<f4").tobytes())
    payload = f"{_encode(json.dumps(fields, ensure_ascii=False).encode())}.{embedding}"
    return f"{payload}.{_signature(payload, key)}"


def read(token: str, keys: Sequence[bytes], model_version: str) -> Page:
    """The page that a token of ours asks for.

    Raises:
        ProblemError: 400 where we did not give it, or another model version did.
    """
    payload = _payload(token, keys)
    if payload is None:
        raise ProblemError(400, f"the page token is not ours: {_REMEDY}")
    head, _, embedding = payload.partition(".")
    form, version, k, number, *filters = json.loads(_decode(head))
    if form != _FORMAT or version != model_version:
        raise ProblemError(400, f"the page token is of {version}, but {model_version} answers now: {_REMEDY}")
    return Page(version, k, number, Filters(*filters), np.frombuffer(_decode(embedding), dtype="<f4"))


def version_of(token: str, keys: Sequence[bytes]) -> str | None:
    """The model version that gave a token; None where we did not."""
    payload = _payload(token, keys)
    if payload is None:
        return None
    form, version, *_ = json.loads(_decode(payload.partition(".")[0]))
    return str(version) if form == _FORMAT else None


def _payload(token: str, keys: Sequence[bytes]) -> str | None:
    """What is signed of a token; None where none of the keys did."""
    payload, _, signature = token.rpartition(".")
    # Every key is tried, so that the time taken does not tell which one signed.
    matches = [hmac.compare_digest(_signature(payload, key).encode(), signature.encode()) for key in keys]
    return payload if any(matches) else None


def _signature(payload: str, key: bytes) -> str:
    return _encode(hmac.digest(key, _CONTEXT + payload.encode("utf-8", "surrogatepass"), "sha256")[:16])


def _encode(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
