"""The keys that sign click tokens, cookies and page links: one per line in a file, newest first.

The newest key signs; all of them verify. `immr keys rotate` adds one and drops the oldest.
"""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

from immr.errors import TokenError
from immr.storage.atomic import write_atomically
from immr.storage.watched_file import WatchedFile

KEY_BYTES = 32
_LOG = logging.getLogger(__name__)


class KeyRing(Sequence[bytes]):
    """The keys of a file, newest first, reloaded when the file changes. Thread safe.

    A missing file is created with one random key. If a changed file is invalid, the previous keys stay valid.

    Raises:
        TokenError: The file holds something other than keys, or cannot be read or created.
    """

    def __init__(self, path: Path) -> None:
        load_or_create_keys(path)
        self._keys = WatchedFile(path, _read_keys, "click-token keys")

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        return self._keys.current()[index]

    def __len__(self) -> int:
        return len(self._keys.current())

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._keys.current())


def load_or_create_keys(path: Path) -> list[bytes]:
    """The keys in this file; a missing file is created with one random key, readable by its owner only.

    Processes that start at the same time agree on the key, because only one of them creates the file.

    Raises:
        TokenError: The file holds something other than keys, or cannot be read or created.
    """
    try:
        if not path.exists():
            _create_keys(path)
    except OSError as error:
        raise _unusable(path, error) from error
    return _read_keys(path)


def rotate(path: Path, keep: int = 2) -> int:
    """Add a new key and keep the `keep` − 1 newest of the others; returns the number of keys.

    Wait at least the lifetime of a token between rotations, or clicks on earlier hits are refused.

    Raises:
        TokenError: The file holds something other than keys, or cannot be read or written.
    """
    older = load_or_create_keys(path)[: max(keep - 1, 0)]
    lines = [_new_line(), *(key.hex() + "\n" for key in older)]
    try:
        write_atomically(path, "".join(lines), mode=0o600)
    except OSError as error:
        raise _unusable(path, error) from error
    return len(lines)


def _read_keys(path: Path) -> list[bytes]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unusable(path, error) from error
    lines = content.split() if content.isascii() else [content]
    try:
        keys = [bytes.fromhex(line.decode("ascii")) for line in lines]
    except ValueError:
        keys = [content] if len(lines) == 1 else []  # one line of raw bytes; among several, a typo
    if not keys or any(len(key) < KEY_BYTES for key in keys):
        raise TokenError(
            f"the click-token keys in {path} have fewer than {KEY_BYTES} bytes: write one per line as "
            f"{2 * KEY_BYTES} hex digits, or delete the file to get a new key"
        )
    return keys


def _new_line() -> str:
    return secrets.token_hex(KEY_BYTES) + "\n"


def _unusable(path: Path, error: OSError) -> TokenError:
    return TokenError(
        f"the click-token key file {path} cannot be read or written ({error}): set IMMR_TOKEN_KEY_FILE to a "
        "file that this process may read and write"
    )


def _create_keys(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, new = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(_new_line())
            file.flush()
            os.fsync(file.fileno())
        os.link(new, path)  # unlike a rename, fails if a faster process has created the file
        _LOG.info("created a new click-token key: %s", path)
    except FileExistsError:
        pass
    finally:
        Path(new).unlink()
