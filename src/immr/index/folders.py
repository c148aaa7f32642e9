"""Contents in folders of this machine, each held by one process at a time.

`<root>/<collection>/<content>/` holds one content; `current` beside it names the one that serves. The name
of a content is its collection's (`immr_immr-3`) and its hash (`immr_immr-3--9f3a…`), so that a build that
dies leaves the one before serving.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from immr.errors import IndexUnavailableError
from immr.index.documents import SEPARATOR, Binding
from immr.index.engine import Engine
from immr.index.journal import Journal
from immr.storage.atomic import write_atomically

_CURRENT = "current"
_BINDING = "binding.json"
_APPLIED = "applied.json"
_DATA = "data"
_HOLDER = "holder.pid"
_JOURNAL = "changes.db"


class Folders:
    """A `Storage` over an embedded engine."""

    def __init__(self, root: Path, open_engine: Callable[[Path, Callable[[], None]], Engine]) -> None:
        """`open_engine` opens the engine whose files lie in a folder; its close calls what it was given."""
        self._root = root
        self._open_engine = open_engine
        self.where = f"the folder {root}"

    def engine(self, content: str) -> Engine:
        """Hold the content's folder until the engine is closed.

        Raises:
            IndexUnavailableError: another process holds it; names the process.
        """
        folder = self._folder(content)
        folder.mkdir(parents=True, exist_ok=True)
        holder = _hold(folder)
        try:
            return self._open_engine(folder / _DATA, lambda: os.close(holder))
        except BaseException:
            os.close(holder)
            raise

    def serving(self, collection: str, content: str) -> Engine:
        """See `engine`."""
        return self.engine(content)

    def published(self, collection: str) -> str | None:
        """Read `current`."""
        pointer = self._root / collection / _CURRENT
        return pointer.read_text() if pointer.is_file() else None

    def binding(self, content: str) -> Binding | None:
        """Read `binding.json`."""
        file = self._folder(content) / _BINDING
        return Binding.from_metadata(json.loads(file.read_text())) if file.is_file() else None

    def bind(self, content: str, binding: Binding) -> None:
        """Replace `binding.json`."""
        write_atomically(self._folder(content) / _BINDING, json.dumps(binding.as_metadata(), indent=1))

    def publish(self, collection: str, content: str) -> None:
        """Replace `current`."""
        write_atomically(self._root / collection / _CURRENT, content)

    def discard_others(self, collection: str, keep: str) -> None:
        """Delete folders that no process holds; the others go with a later build."""
        left = [folder for folder in self._contents(collection) if folder.name != keep]
        gone = [_delete_unless_held(folder) for folder in left]
        if all(gone):
            self.journal(collection).forget(self.applied(keep))

    def collections(self) -> list[str]:
        """Folders of the root."""
        return sorted(folder.name for folder in self._root.glob("*") if folder.is_dir())

    def remove(self, collection: str) -> bool:
        """Delete the collection's folder, where no process holds a content of it."""
        with ExitStack() as held:
            for content in self._contents(collection):
                try:
                    held.callback(os.close, _hold(content))
                except IndexUnavailableError:
                    return False
            shutil.rmtree(self._root / collection, ignore_errors=True)
        return True

    def journal(self, collection: str) -> Journal:
        """Beside the contents, because each of them needs the same changes."""
        return Journal(self._root / collection / _JOURNAL)

    def applied(self, content: str) -> int:
        """Read `applied.json`; a content that was never changed has what it was built with."""
        file = self._folder(content) / _APPLIED
        if file.is_file():
            return int(json.loads(file.read_text())["sequence"])
        binding = self.binding(content)
        return binding.sequence if binding else 0

    def note_applied(self, content: str, sequence: int) -> None:
        """Replace `applied.json`."""
        write_atomically(self._folder(content) / _APPLIED, json.dumps({"sequence": sequence}))

    def _contents(self, collection: str) -> list[Path]:
        return sorted(path for path in (self._root / collection).glob(f"*{SEPARATOR}*") if path.is_dir())

    def _folder(self, content: str) -> Path:
        return self._root / content.rsplit(SEPARATOR, 1)[0] / content


def _hold(folder: Path) -> int:
    """Lock a folder before its engine does, because ours can say who has it. Returns a descriptor."""
    handle = os.open(folder / _HOLDER, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(handle, 32).decode() or "unknown"
        os.close(handle)
        raise IndexUnavailableError(
            f"the index folder {folder} is held by process {holder}, and an embedded index lets in one "
            "process at a time: stop that process (a Bento that serves this version?), or set IMMR_INDEX_URL "
            "to a Qdrant server, which many can use"
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
