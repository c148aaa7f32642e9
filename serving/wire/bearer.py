"""Bearer authentication. A file lists the SHA-256 hashes of the keys, so that it does not reveal them.

One line per key: `<64 hex digits> <owner>`; `#` starts a comment. The file is reloaded when it changes; while
it is invalid or missing, the previous keys stay in force. `python -m serving.wire.bearer` creates a key and
its line.
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
_PUBLIC = ("/health/", "/v2/health/")  # probes carry no keys
_SCHEME = "bearer"


class BearerKeys:
    """The keys of one file. Thread-safe.

    Raises:
        SettingsError: the file is missing, invalid or empty.
    """

    def __init__(self, path: Path) -> None:
        self._hashes = WatchedFile(path, _read, "bearer keys")

    def knows(self, key: str) -> bool:
        """Whether the key is one of them, in constant time."""
        digest = sha256(key.encode("utf-8", "surrogateescape")).digest()
        matches = [hmac.compare_digest(digest, known) for known in self._hashes.current()]
        return any(matches)


class RequireBearer:
    """ASGI middleware: answers 401 to requests without a known key, except for health probes."""

    def __init__(self, app: ASGIApp, keys: BearerKeys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http" or scope["path"].startswith(_PUBLIC):
            await self._app(scope, receive, send)
            return
        key = _key_of(scope)
        if key and self._keys.knows(key):
            await self._app(scope, receive, send)
            return
        detail = "This service needs a key. Send it as `Authorization: Bearer <key>`."
        if key:
            detail = "This service does not know the key that was sent. Its operator can issue one."
        error = ProblemError(401, detail, headers={"WWW-Authenticate": 'Bearer realm="immr"'})
        await problem_response(error, scope["path"])(scope, receive, send)


def _key_of(scope: Scope) -> str:
    """The key of a request; empty if it has none."""
    given = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
    kind, _, key = given.partition(" ")
    return key.strip() if kind.lower() == "bearer" else ""


def document_keys(app: FastAPI) -> None:
    """Documents in the OpenAPI that every request except health probes needs a key."""
    generate: Callable[[], dict[str, Any]] = app.openapi
    [(status, refused)] = problem_responses(401).items()

    def openapi() -> dict[str, Any]:
        schema = generate()
        schema["components"].setdefault("securitySchemes", {})[_SCHEME] = {"type": "http", "scheme": "bearer"}
        schema["security"] = [{_SCHEME: []}]
        for path, operations in schema["paths"].items():
            for operation in operations.values():
                if path.startswith(_PUBLIC):
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
            f"The bearer keys {path} cannot be read ({error.strerror}). Check IMMR_BEARER_KEYS_FILE."
        ) from error
    hashes = []
    for number, line in enumerate(lines, start=1):
        content = line.split("#")[0].strip()
        if not content:
            continue
        if not (match := _LINE.fullmatch(content)):
            raise SettingsError(
                f"Line {number} of {path} is not a SHA-256 hash. Run `python -m serving.wire.bearer`."
            )
        hashes.append(bytes.fromhex(match[1]))
    if not hashes:
        raise SettingsError(f"{path} contains no keys. Add one, or unset IMMR_BEARER_KEYS_FILE.")
    return hashes


def main() -> None:
    """Creates a key: prints the key to stdout, once, and its line for the file to stderr."""
    key = secrets.token_urlsafe(32)
    print(key)
    print(f"{sha256(key.encode()).hexdigest()} owner", file=sys.stderr)


if __name__ == "__main__":
    main()
