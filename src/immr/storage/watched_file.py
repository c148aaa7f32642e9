"""A file that people or programs change while we run, read again when it has changed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
_LOG = logging.getLogger(__name__)


class WatchedFile(Generic[T]):
    """What `read` makes of a file, as it is now; one that is wrong or gone changes nothing but the log.

    Thread safe. What `read` raises for a wrong file goes on to the caller at the start.
    """

    def __init__(self, path: Path, read: Callable[[Path], T], what: str) -> None:
        """`what` names the content in the log: "bearer keys"."""
        self._path, self._read, self._what = path, read, what
        self._lock = threading.Lock()
        self._seen = self._stamp()
        self._content = read(path)
        self.wrong = ""
        """Why the file as it is now is not in force; empty where it is."""

    def current(self) -> T:
        """The newest valid content; costs one `stat` where nothing changed."""
        with self._lock:
            if (stamp := self._stamp()) != self._seen:
                self._seen = stamp
                self._reload()
            return self._content

    def _reload(self) -> None:
        try:
            self._content = self._read(self._path)
            self.wrong = ""
            _LOG.info("the %s in %s are in force", self._what, self._path)
        except Exception as error:  # a fault that `read` does not foresee is one of the file all the same
            self.wrong = str(error) or type(error).__name__
            _LOG.error("kept the %s that were in force, the new ones are wrong: %s", self._what, self.wrong)

    def _stamp(self) -> tuple[int, int, int] | None:
        """Changes with every rename onto the file, even within one tick of its clock."""
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino
