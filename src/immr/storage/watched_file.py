"""Reloads a file that is changed while the process runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
_LOG = logging.getLogger(__name__)


class WatchedFile(Generic[T]):
    """The parsed content of a file, reloaded when the file changes. Thread-safe.

    If the changed file is invalid or missing, the former content stays in force and the error is logged. An
    invalid file at construction raises what `read` raises.
    """

    def __init__(self, path: Path, read: Callable[[Path], T], what: str) -> None:
        """`what` names the content in the log: "bearer keys"."""
        self._path, self._read, self._what = path, read, what
        self._lock = threading.Lock()
        self._seen = self._stamp()
        self._content = read(path)
        self.wrong = ""
        """Why the current file is not in force; empty if it is."""

    def current(self) -> T:
        """The newest valid content; costs one `stat` if nothing changed."""
        with self._lock:
            if (stamp := self._stamp()) != self._seen:
                self._seen = stamp
                self._reload()
            return self._content

    def _reload(self) -> None:
        try:
            self._content = self._read(self._path)
            self.wrong = ""
            _LOG.info("reloaded the %s from %s", self._what, self._path)
        except Exception as error:  # `read` may raise anything for an invalid file
            self.wrong = str(error) or type(error).__name__
            _LOG.error("%s is invalid, the former %s stay in force: %s", self._path, self._what, self.wrong)

    def _stamp(self) -> tuple[int, int, int] | None:
        """Changes with every replacement of the file, even within one tick of its clock."""
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino
