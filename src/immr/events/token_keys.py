"""The keys that sign click tokens, cookies and pages: one per line in a file, newest first.

That one signs, all verify. `immr keys rotate` adds one and lets go of the oldest.
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
    """The keys of a file, newest first; read again when it changes. Thread safe.

    Made with one random key where there is no file. A changed file that is wrong keeps the keys in force.

    Raises:
        TokenError: the file holds something else than keys, or cannot be read or made.
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
        keys = [content] if len(lines) == 1 else []  # raw bytes; of many lines one is mistyped
    if not keys or any(len(key) < KEY_BYTES for key in keys):
        raise TokenError(
            f"the click-token keys in {path} have fewer than {KEY_BYTES} bytes: give one per line as "
            f"{2 * KEY_BYTES} hex digits, or delete the file and a new one is made"
        )
    return keys


def _new_line() -> str:
    return secrets.token_hex(KEY_BYTES) + "\n"


def _unusable(path: Path, error: OSError) -> TokenError:
    return TokenError(
        f"the click-token keys {path} cannot be read or written ({error}): set IMMR_TOKEN_KEY_FILE to a file "
        "that this process may use"
    )


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
