"""Contents in folders of this machine, each held by one process at a time.

`<root>/<collection>/<content>/` holds one content; the file `current` beside it names the published one.
Contents are named by a hash of their documents, so a failed build never touches the one that serves.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from immr.errors import IndexUnavailableError
from immr.index.binding import Binding
from immr.index.change_journal import ChangeJournal
from immr.index.collection_names import collection_of, is_content
from immr.index.engines.client import open_local
from immr.index.engines.edge import EdgeEngine
from immr.index.engines.engine import VectorEngine
from immr.index.engines.recent_payloads import RecentPayloads
from immr.storage.atomic import write_atomically

_CURRENT = "current"
_BINDING = "binding.json"
_APPLIED = "applied.json"
_DATA = "data"
_HOLDER = "holder.pid"
_JOURNAL = "changes.db"


@dataclass(frozen=True)
class EmbeddedEngine:
    """A kind of engine that keeps its points in a folder.

    Attributes:
        title: Its name in messages.
        scheme: Its URL scheme.
        marker: A file that exists in every folder of this kind.
        open: Opens a folder; calls its second argument when the engine is closed.
        suffix: See `Storage.suffix`.
    """

    title: str
    scheme: str
    marker: str
    open: Callable[[Path, Callable[[], None]], VectorEngine]
    suffix: str = ""


EDGE = EmbeddedEngine("Qdrant Edge", "edge", "edge_config.json", EdgeEngine)
EDGE_INT8 = replace(EDGE, open=partial(EdgeEngine, quantized=True), suffix="-int8")
LOCAL_MODE = EmbeddedEngine("qdrant-client's local mode", "file", "meta.json", open_local)


class FolderStorage:
    """A `Storage` on an embedded engine."""

    def __init__(self, root: Path, kind: EmbeddedEngine) -> None:
        self._root = root
        self._kind = kind
        self.where = f"the folder {root}"
        self.suffix = kind.suffix

    def engine(self, content: str) -> VectorEngine:
        """Open a content and hold its folder until the engine is closed.

        Data that another kind of engine left in the folder is deleted.

        Raises:
            IndexUnavailableError: Another process holds the folder; the message names the process.
        """
        folder = self._folder(content)
        folder.mkdir(parents=True, exist_ok=True)
        holder = _hold(folder)
        try:
            if self._other_engine(content):
                for file in (_BINDING, _APPLIED):  # first, so that a crash leaves no finished content
                    (folder / file).unlink(missing_ok=True)
                shutil.rmtree(folder / _DATA)
            return self._kind.open(folder / _DATA, lambda: os.close(holder))
        except BaseException:
            os.close(holder)
            raise

    def serving(self, collection: str, content: str) -> VectorEngine:
        """See `engine`; with payloads in memory, because no other process changes the points."""
        return RecentPayloads(self.engine(content))

    def published(self, collection: str) -> str | None:
        """The content of the file `current`."""
        pointer = self._root / collection / _CURRENT
        return pointer.read_text() if pointer.is_file() else None

    def binding(self, content: str) -> Binding | None:
        """The content of `binding.json`; None if another kind of engine built the content."""
        file = self._folder(content) / _BINDING
        if not file.is_file() or self._other_engine(content):
            return None
        return Binding.from_metadata(json.loads(file.read_text()))

    def obstacle(self, content: str) -> str:
        """See `Storage.obstacle`: another kind of engine built the content."""
        other = self._other_engine(content)
        if other is None:
            return ""
        return (
            f"{self._folder(content)} was built by {other.title}, but IMMR_INDEX_URL selects "
            f"{self._kind.title}: to keep using it, set IMMR_INDEX_URL={other.scheme}://{self._root}"
        )

    def bind(self, content: str, binding: Binding) -> None:
        """Replace `binding.json`."""
        write_atomically(self._folder(content) / _BINDING, json.dumps(binding.as_metadata(), indent=1))

    def publish(self, collection: str, content: str) -> None:
        """Replace the file `current`."""
        write_atomically(self._root / collection / _CURRENT, content)

    def discard_others(self, collection: str, keep: str) -> None:
        """Delete folders that no process holds; a later build deletes the rest."""
        others = [folder for folder in self._contents(collection) if folder.name != keep]
        deleted = [_delete_unless_held(folder) for folder in others]
        if all(deleted):
            self.journal(collection).forget(self.applied(keep))

    def collections(self) -> list[str]:
        """The folders below the root."""
        return sorted(folder.name for folder in self._root.glob("*") if folder.is_dir())

    def remove(self, collection: str) -> bool:
        """Delete the collection's folder unless a process holds one of its contents."""
        with ExitStack() as held:
            for content in self._contents(collection):
                try:
                    held.callback(os.close, _hold(content))
                except IndexUnavailableError:
                    return False
            shutil.rmtree(self._root / collection, ignore_errors=True)
        return True

    def journal(self, collection: str) -> ChangeJournal:
        """The collection's journal; its contents share it, because each needs the same changes."""
        return ChangeJournal(self._root / collection / _JOURNAL)

    def applied(self, content: str) -> int:
        """The content of `applied.json`, or the sequence that the content was built with."""
        file = self._folder(content) / _APPLIED
        if file.is_file():
            return int(json.loads(file.read_text())["sequence"])
        binding = self.binding(content)
        return binding.sequence if binding else 0

    def note_applied(self, content: str, sequence: int) -> None:
        """Replace `applied.json`."""
        write_atomically(self._folder(content) / _APPLIED, json.dumps({"sequence": sequence}))

    def _contents(self, collection: str) -> list[Path]:
        folders = (self._root / collection).glob("*")
        return sorted(path for path in folders if is_content(path.name) and path.is_dir())

    def _folder(self, content: str) -> Path:
        return self._root / collection_of(content) / content

    def _other_engine(self, content: str) -> EmbeddedEngine | None:
        """The kind of engine that built this content, if it differs from this storage's."""
        data = self._folder(content) / _DATA
        if (data / self._kind.marker).is_file():
            return None
        return next((kind for kind in (EDGE, LOCAL_MODE) if (data / kind.marker).is_file()), None)


def _hold(folder: Path) -> int:
    """Lock a folder; unlike the engine's own lock, this one names its holder. Returns a descriptor."""
    handle = os.open(folder / _HOLDER, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(handle, 32).decode() or "unknown"
        os.close(handle)
        raise IndexUnavailableError(
            f"the index folder {folder} is held by process {holder}, and an embedded index admits one "
            "process at a time: stop that process (a Bento of this version?), or set IMMR_INDEX_URL to a "
            "Qdrant server"
        ) from None
    os.ftruncate(handle, 0)
    os.write(handle, str(os.getpid()).encode())
    return handle


def _delete_unless_held(folder: Path) -> bool:
    try:
        handle = _hold(folder)
    except IndexUnavailableError:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    os.close(handle)
    return True
