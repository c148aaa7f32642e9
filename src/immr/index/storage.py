"""Where collections lie, and which of a version's contents serves: folders of local mode, or a server.

A version's collection has a name that stays (`immr_immr-3`) and contents that come and go
(`immr_immr-3--9f3a…`, named by their hash). Publishing points the name at a content in one atomic move,
so that a build that dies leaves the one before serving.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from immr.errors import IndexUnavailableError
from immr.files import write_whole

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

SEPARATOR = "--"
_CURRENT = "current"
_HOLDER = "holder.pid"


class Connection(Protocol):
    """A client that can reach one content."""

    client: QdrantClient

    def close(self) -> None:
        """Let go of it."""


class Storage(Protocol):
    """Contents by name, and the one that each collection's name points at."""

    where: str
    is_local: bool

    def connect(self, content: str) -> Connection:
        """A client that can create, fill and search this content."""

    def published(self, collection: str) -> str | None:
        """The content that serves under the collection's name."""

    def metadata(self, content: str) -> Mapping[str, Any] | None:
        """What the content carries, None where there is no such content; never needs a lock."""

    def publish(self, collection: str, content: str) -> None:
        """Let the content serve under the collection's name, in place of the one before."""

    def discard_others(self, collection: str, keep: str) -> None:
        """Delete the collection's other contents."""


class LocalFolders:
    """`<root>/<collection>/<content>/` holds one content; `current` beside it names the one that serves.

    Local mode lets one process at a time hold a content, and loads it into memory whole.
    """

    is_local = True

    def __init__(self, root: Path) -> None:
        self._root = root
        self.where = f"the folder {root}"

    def connect(self, content: str) -> _LocalConnection:
        """Hold the content's folder.

        Raises:
            IndexUnavailableError: another process holds it; names the process.
        """
        return _LocalConnection(self._folder(content))

    def published(self, collection: str) -> str | None:
        """Read `current`."""
        pointer = self._root / collection / _CURRENT
        return pointer.read_text() if pointer.is_file() else None

    def metadata(self, content: str) -> Mapping[str, Any] | None:
        """Read local mode's own `meta.json`: it is replaced whole, so a Bento may hold the content."""
        file = self._folder(content) / "meta.json"
        if not file.is_file():
            return None
        config: Mapping[str, Any] = json.loads(file.read_text())["collections"].get(content, {})
        return config.get("metadata")

    def publish(self, collection: str, content: str) -> None:
        """Replace `current`."""
        write_whole(self._root / collection / _CURRENT, content)

    def discard_others(self, collection: str, keep: str) -> None:
        """Delete folders that no process holds; the others go with a later build."""
        for folder in (self._root / collection).iterdir():
            if folder.is_dir() and folder.name != keep:
                _delete_unless_held(folder)

    def _folder(self, content: str) -> Path:
        return self._root / content.rsplit(SEPARATOR, 1)[0] / content


class _LocalConnection:
    def __init__(self, folder: Path) -> None:
        from qdrant_client import QdrantClient

        folder.mkdir(parents=True, exist_ok=True)
        self._holder = _hold(folder)
        try:
            with warnings.catch_warnings():  # about 20,000 points and more: docs say when to use a server
                warnings.simplefilter("ignore", UserWarning)
                self.client = QdrantClient(path=str(folder))
        except BaseException:
            os.close(self._holder)
            raise

    def close(self) -> None:
        self.client.close()
        if self._holder >= 0:
            os.close(self._holder)
            self._holder = -1


class Server:
    """Contents are collections of a Qdrant server; the collection's name is an alias."""

    is_local = False

    def __init__(self, url: str, timeout_s: int) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self.where = f"the Qdrant server {url}"

    def connect(self, content: str) -> _ServerConnection:
        """A client; nothing is asked of the server yet."""
        return _ServerConnection(self._url, self._timeout_s)

    def published(self, collection: str) -> str | None:
        """Ask for the aliases."""
        with self._client() as client:
            aliases = {alias.alias_name: alias.collection_name for alias in client.get_aliases().aliases}
        return aliases.get(collection)

    def metadata(self, content: str) -> Mapping[str, Any] | None:
        """Ask for the collection's configuration."""
        with self._client() as client:
            if not client.collection_exists(content):
                return None
            return client.get_collection(content).config.metadata

    def publish(self, collection: str, content: str) -> None:
        """Move the alias: old one away and new one in, in one request, which the server does atomically."""
        from qdrant_client import models

        create = models.CreateAliasOperation(
            create_alias=models.CreateAlias(collection_name=content, alias_name=collection)
        )
        delete = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=collection))
        with self._client() as client:
            client.update_collection_aliases([delete, create] if self.published(collection) else [create])

    def discard_others(self, collection: str, keep: str) -> None:
        """Delete the collections that begin with this one's name."""
        with self._client() as client:
            for other in client.get_collections().collections:
                if other.name.startswith(collection + SEPARATOR) and other.name != keep:
                    client.delete_collection(other.name)

    @contextmanager
    def _client(self) -> Iterator[QdrantClient]:
        connection = _ServerConnection(self._url, self._timeout_s)
        try:
            yield connection.client
        finally:
            connection.close()


class _ServerConnection:
    def __init__(self, url: str, timeout_s: int) -> None:
        from qdrant_client import QdrantClient

        self.client = QdrantClient(url=url, timeout=timeout_s, check_compatibility=False)

    def close(self) -> None:
        self.client.close()


def _hold(folder: Path) -> int:
    """Lock a folder before Qdrant does, because our lock can say who has it. Returns a file descriptor."""
    handle = os.open(folder / _HOLDER, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(handle, 32).decode() or "unknown"
        os.close(handle)
        raise IndexUnavailableError(
            f"the index folder {folder} is held by process {holder}, and local mode lets in one process at a "
            "time: stop that process (a Bento that serves this version?), or set IMMR_INDEX_URL to a Qdrant "
            "server, which many can use"
        ) from None
    os.ftruncate(handle, 0)
    os.write(handle, str(os.getpid()).encode())
    return handle


def _delete_unless_held(folder: Path) -> None:
    try:
        handle = _hold(folder)
    except IndexUnavailableError:
        return
    shutil.rmtree(folder, ignore_errors=True)
    os.close(handle)
