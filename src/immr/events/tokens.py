"""Click tokens: signed records of what was shown, so that clients cannot invent clicks.

A token is `<payload>.<signature>`, both URL-safe base64 without padding. The payload is a JSON list; the
signature is HMAC-SHA256 over the payload's text.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from immr.errors import TokenError
from immr.events.token_keys import KEY_BYTES
from immr.types import Click, EventType

_FORMAT = 1
MAX_CHARS = 8192  # an item_id of 1000 characters, of four bytes each, in base64
_JSON = json.JSONEncoder(ensure_ascii=False)  # shared, because every search signs ten tokens
_CLOCK_SKEW = timedelta(minutes=1)  # tolerated between the clocks of two machines


@dataclass(frozen=True, slots=True)
class ClickToken:
    """The content of a valid token: which item was shown, at which position, when and by which version."""

    query_id: str
    item_id: str
    position: int
    variant: str
    model_version: str
    issued: datetime


class Signer:
    """Signs the impressions of one search; their common fields are encoded once."""

    def __init__(self, key: bytes, query_id: str, variant: str, model_version: str, issued: datetime) -> None:
        """Encode the fields that all hits share.

        Raises:
            TokenError: The key is too short, or `issued` has no time zone.
        """
        _check_keys([key])
        issued_ms = round(_aware(issued).timestamp() * 1000)
        self._before = f"[{_FORMAT},{_JSON.encode(query_id)},"
        self._after = f",{_JSON.encode(variant)},{_JSON.encode(model_version)},{issued_ms}]"
        self._mac = hmac.new(key, digestmod="sha256")

    def sign(self, item_id: str, position: int) -> str:
        """A token for one impression, safe to use in URLs and JSON."""
        payload = _encode(f"{self._before}{_JSON.encode(item_id)},{position}{self._after}".encode())
        return f"{payload}.{_signed(self._mac.copy(), payload)}"


def verify(keys: Sequence[bytes], token: str, now: datetime, max_age: timedelta) -> ClickToken:
    """Check a token's signature against all `keys` and its age; returns its content.

    Raises:
        TokenError: The token is malformed, forged, too old, or from the future.
    """
    _check_keys(keys)
    payload, dot, signature = token.partition(".")
    if not (payload and dot and signature and token.isascii() and len(token) <= MAX_CHARS):
        raise TokenError("not a click token: send the `click_token` of a hit unchanged")
    # compare with every key, so that the time taken does not reveal which one signed
    matches = [hmac.compare_digest(_signature(key, payload), signature) for key in keys]
    if not any(matches):
        raise TokenError(
            "the click token was not signed with a key of this service: send the `click_token` of a hit unchanged"
        )
    content = _decode(payload)
    _check_age(content, _aware(now), max_age)
    return content


def event_id(token: ClickToken, event_type: EventType) -> str:
    """The id of a click or an order on this impression, the same however often it is sent or signed."""
    identity = json.dumps([token.query_id, token.item_id, token.position, event_type])
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


def to_click(token: ClickToken, event_type: EventType, ts: datetime, amount: float | None = None) -> Click:
    """The event-log record of a click or an order with a valid token."""
    return Click(event_id(token, event_type), event_type, token.query_id, token.item_id, ts, amount)


def _check_keys(keys: Sequence[bytes]) -> None:
    if not keys or any(len(key) < KEY_BYTES for key in keys):
        raise TokenError(f"click tokens need at least one key of {KEY_BYTES} bytes: use a KeyRing")


def _check_age(token: ClickToken, now: datetime, max_age: timedelta) -> None:
    age = now - token.issued
    if age > max_age:
        raise TokenError(
            f"the click token is {age.total_seconds():.0f} s old, more than the allowed "
            f"{max_age.total_seconds():.0f} s: search again for a new one"
        )
    if age < -_CLOCK_SKEW:
        raise TokenError(
            f"the click token was issued {-age.total_seconds():.0f} s in the future: check the clocks of the "
            "serving machines"
        )


def _signature(key: bytes, payload: str) -> str:
    return _signed(hmac.new(key, digestmod="sha256"), payload)


def _signed(mac: hmac.HMAC, payload: str) -> str:
    # not hmac.digest, which releases the GIL: under load each of ten tokens would wait to reacquire it
    mac.update(payload.encode())
    return _encode(mac.digest())


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decode(payload: str) -> ClickToken:
    """Decode a payload with a valid signature; if that fails, another release of IMMR wrote it."""
    try:
        fields = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        version, query_id, item_id, position, variant, model_version, issued_ms = fields
        if version != _FORMAT:
            raise ValueError(f"format {version}")
        issued = datetime.fromtimestamp(issued_ms / 1000, tz=UTC)
        return ClickToken(query_id, item_id, position, variant, model_version, issued)
    except (ValueError, TypeError, OverflowError) as error:
        raise TokenError(
            f"the click token has a format that this release does not read ({error}): search again for a "
            "new one"
        ) from error


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise TokenError(f"the time {moment.isoformat()} has no time zone: use datetime.now(UTC)")
    return moment
