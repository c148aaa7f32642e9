"""Bearer keys, where a file names some: SHA-256 hashes, so that the file gives no key away.

One line per key: `<64 hex digits> <whose it is>`; `#` begins a comment. Read again when it changes; a file
that is wrong or gone keeps the keys that were in force. `python -m serving.wire.bearer` makes
a key and its line.
"""

from __future__ import annotations

import hmac
import re
import secrets
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from immr.errors import SettingsError
from immr.storage.watched_file import WatchedFile
from serving.wire.problems import ProblemError, problem_response, problem_responses

_LINE = re.compile(r"([0-9a-f]{64})(?:\s+(.*))?")
_OPEN_TO_ALL = ("/health/", "/v2/health/")  # probes carry no keys
_SCHEME = "bearer"


class BearerKeys:
    """The keys of one file. Thread safe.

    Raises:
        SettingsError: the file is not there, is wrong, or names no key.
    """

    def __init__(self, path: Path) -> None:
        self._hashes = WatchedFile(path, _read, "bearer keys")

    def knows(self, key: str) -> bool:
        """Whether this is one of them; takes as long whichever it is."""
        digest = sha256(key.encode("utf-8", "surrogateescape")).digest()
        matches = [hmac.compare_digest(digest, known) for known in self._hashes.current()]
        return any(matches)


class RequireBearer:
    """ASGI: 401 for requests without a key that is known, but for health."""

    def __init__(self, app: ASGIApp, keys: BearerKeys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or scope["path"].startswith(_OPEN_TO_ALL) or self._is_known(scope):
            await self._app(scope, receive, send)
            return
        detail = "this needs a key: send it as `Authorization: Bearer <key>`"
        error = ProblemError(401, detail, headers={"WWW-Authenticate": 'Bearer realm="immr"'})
        await problem_response(error, scope["path"])(scope, receive, send)

    def _is_known(self, scope: Scope) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        kind, _, key = given.partition(" ")
        return kind.lower() == "bearer" and self._keys.knows(key.strip())


def tell_of_keys(app: FastAPI) -> None:
    """Let an application's OpenAPI say that every request needs a key, but for health."""
    generate: Callable[[], dict[str, Any]] = app.openapi
    [(status, refused)] = problem_responses(401).items()

    def openapi() -> dict[str, Any]:
        schema = generate()
        schema["components"].setdefault("securitySchemes", {})[_SCHEME] = {"type": "http", "scheme": "bearer"}
        schema["security"] = [{_SCHEME: []}]
        for path, operations in schema["paths"].items():
            for operation in operations.values():
                if path.startswith(_OPEN_TO_ALL):
                    operation["security"] = []
                else:
                    operation["responses"][str(status)] = refused
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


def _read(path: Path) -> list[bytes]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError as error:
        raise SettingsError(
            f"the bearer keys {path} cannot be read ({error.strerror}): check IMMR_BEARER_KEYS_FILE"
        ) from error
    hashes = []
    for number, line in enumerate(lines, start=1):
        content = line.split("#")[0].strip()
        if not content:
            continue
        if not (match := _LINE.fullmatch(content)):
            raise SettingsError(
                f"line {number} of {path} is no SHA-256 in hex: `python -m serving.wire.bearer` makes one"
            )
        hashes.append(bytes.fromhex(match[1]))
    if not hashes:
        raise SettingsError(f"{path} names no key: add one, or unset IMMR_BEARER_KEYS_FILE")
    return hashes


def main() -> None:
    """Make a key: the key itself goes to stdout once, its line for the file to stderr."""
    key = secrets.token_urlsafe(32)
    print(key)
    print(f"{sha256(key.encode()).hexdigest()} whose key this is", file=sys.stderr)


if __name__ == "__main__":
    main()
