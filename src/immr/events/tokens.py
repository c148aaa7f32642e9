"""Click tokens: what was shown, where and by which version, signed so that no one can invent clicks.

A token is `<payload>.<signature>`, both URL-safe base64 without padding; the payload is a JSON list and the
signature is HMAC-SHA256 over the payload's text.

A key file has one key per line, newest first: that one signs, all verify. `immr keys rotate` adds
one and lets go of the oldest.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import os
import secrets
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import overload

from immr.errors import TokenError
from immr.files import write_whole
from immr.types import Click, EventType

_LOG = logging.getLogger(__name__)
_FORMAT = 1
_KEY_BYTES = 32
_MAX_CHARS = 4096
_CLOCK_SKEW = timedelta(minutes=1)  # two machines' clocks may differ by this much


@dataclass(frozen=True, slots=True)
class ClickToken:
    """What a valid token says: this item was shown here, then, by this version."""

    query_id: str
    item_id: str
    position: int
    variant: str
    model_version: str
    issued: datetime


def sign(
    key: bytes,
    query_id: str,
    item_id: str,
    position: int,
    variant: str,
    model_version: str,
    issued: datetime,
) -> str:
    """A token for one impression, safe in a URL and in JSON.

    Raises:
        TokenError: the key is too short, or `issued` has no time zone.
    """
    _check_keys([key])
    issued_ms = round(_aware(issued).timestamp() * 1000)
    fields = [_FORMAT, query_id, item_id, position, variant, model_version, issued_ms]
    payload = _encode(json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode())
    return f"{payload}.{_signature(key, payload)}"


def verify(keys: Sequence[bytes], token: str, now: datetime, max_age: timedelta) -> ClickToken:
    """What the token says, if one of `keys` signed it and it is of the right age.

    Raises:
        TokenError: broken, forged, too old, or from the future.
    """
    _check_keys(keys)
    payload, dot, signature = token.partition(".")
    if not (payload and dot and signature and token.isascii() and len(token) <= _MAX_CHARS):
        raise TokenError("this is not a click token: send back the `click_token` of a hit, unchanged")
    # Every key is tried, so that the time taken does not tell which one signed.
    matches = [hmac.compare_digest(_signature(key, payload), signature) for key in keys]
    if not any(matches):
        raise TokenError(
            "the click token was not signed by our key: send back the `click_token` of a hit, unchanged"
        )
    said = _decode(payload)
    _check_age(said, _aware(now), max_age)
    return said


def event_id(token: ClickToken, event_type: EventType) -> str:
    """The id of a click or an order on this impression: the same however often it is sent, or signed."""
    identity = json.dumps([token.query_id, token.item_id, token.position, event_type])
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


def to_click(token: ClickToken, event_type: EventType, ts: datetime) -> Click:
    """The event-log record of a click or an order that came with a valid token."""
    return Click(event_id(token, event_type), event_type, token.query_id, token.item_id, ts)


class KeyRing(Sequence[bytes]):
    """The keys of a file, newest first; read again when it changes. Thread safe.

    Made with one random key where there is no file. A changed file that is wrong keeps the keys in force.

    Raises:
        TokenError: the file holds something else than keys, or cannot be read or made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._keys = load_or_create_keys(path)
        self._seen = _stamp(path)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        return self._current()[index]

    def __len__(self) -> int:
        return len(self._current())

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._current())

    def _current(self) -> list[bytes]:
        with self._lock:
            if (stamp := _stamp(self._path)) not in (self._seen, None):
                self._seen = stamp
                try:
                    self._keys = _read_keys(self._path)
                    _LOG.info("%d click-token keys are in force", len(self._keys))
                except TokenError as error:
                    _LOG.error("kept the click-token keys that were in force: %s", error)
            return self._keys


def load_or_create_keys(path: Path) -> list[bytes]:
    """The keys in this file; where there is none, a new random one, readable by its owner only.

    Processes that start at once agree: the file appears whole, and only one of them makes it.

    Raises:
        TokenError: the file holds something else than keys, or cannot be read or made.
    """
    try:
        if not path.exists():
            _create_keys(path)
    except OSError as error:
        raise _unusable(path, error) from error
    return _read_keys(path)


def rotate(path: Path, keep: int = 2) -> int:
    """Put a new key before those of the file, of which `keep` − 1 stay; returns how many there are now.

    Rotate no more often than tokens grow old, or clicks on older hits are refused.

    Raises:
        TokenError: the file holds something else than keys, or cannot be read or written.
    """
    older = load_or_create_keys(path)[: max(keep - 1, 0)]
    lines = [_new_line(), *(key.hex() + "\n" for key in older)]
    try:
        write_whole(path, "".join(lines), mode=0o600)
    except OSError as error:
        raise _unusable(path, error) from error
    return len(lines)


def _read_keys(path: Path) -> list[bytes]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        keys = [bytes.fromhex(line) for line in content.decode("ascii").split()]
    except ValueError:
        keys = [content]  # one key as raw bytes
    if not keys or any(len(key) < _KEY_BYTES for key in keys):
        raise TokenError(
            f"the click-token keys in {path} have fewer than {_KEY_BYTES} bytes: give one per line as "
            f"{2 * _KEY_BYTES} hex digits, or delete the file and a new one is made"
        )
    return keys


def _new_line() -> str:
    return secrets.token_hex(_KEY_BYTES) + "\n"


def _unusable(path: Path, error: OSError) -> TokenError:
    return TokenError(
        f"the click-token keys {path} cannot be read or written ({error}): set IMMR_TOKEN_KEY_FILE to a file "
        "that this process may use"
    )


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _create_keys(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(_new_line())
            file.flush()
            os.fsync(file.fileno())
        os.link(aside, path)  # unlike a rename, this never replaces the keys of a faster process
        _LOG.info("made a new click-token key: %s", path)
    except FileExistsError:
        pass
    finally:
        Path(aside).unlink()


def _check_keys(keys: Sequence[bytes]) -> None:
    if not keys or any(len(key) < _KEY_BYTES for key in keys):
        raise TokenError(f"click tokens need at least one key, and {_KEY_BYTES} bytes in each: use a KeyRing")


def _check_age(token: ClickToken, now: datetime, max_age: timedelta) -> None:
    age = now - token.issued
    if age > max_age:
        raise TokenError(
            f"the click token is {age.total_seconds():.0f} s old, at most {max_age.total_seconds():.0f} s "
            "are allowed: search again for a fresh one"
        )
    if age < -_CLOCK_SKEW:
        raise TokenError(
            f"the click token was issued {-age.total_seconds():.0f} s in the future: check the clocks of the "
            "machines that serve"
        )


def _signature(key: bytes, payload: str) -> str:
    return _encode(hmac.digest(key, payload.encode(), "sha256"))


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decode(payload: str) -> ClickToken:
    """Read a payload whose signature is right, so a fault here means another version of IMMR wrote it."""
    try:
        fields = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        version, query_id, item_id, position, variant, model_version, issued_ms = fields
        if version != _FORMAT:
            raise ValueError(f"format {version}")
        issued = datetime.fromtimestamp(issued_ms / 1000, tz=UTC)
        return ClickToken(query_id, item_id, position, variant, model_version, issued)
    except (ValueError, TypeError, OverflowError) as error:
        raise TokenError(
            f"the click token is signed, but not in a form that this version reads ({error}): search again "
            "for a fresh one"
        ) from error


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise TokenError(f"the time {moment.isoformat()} has no time zone: use datetime.now(UTC)")
    return moment
