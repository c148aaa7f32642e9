"""Events on their way to the log: lines in local files that outlive this process and an outage of the log.

A line survives SIGKILL once `append` returns, and a power cut after `sync`. Files are read in order and
deleted once the log has all of their lines. After a crash some lines are delivered twice; the log recognizes
them by their ids and ignores them.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from immr.errors import EventLogError
from immr.events.journal_entries import Entry, from_line, to_line
from immr.events.refused_events import RefusedEvents

MAX_WAITING_BYTES = 256 * 1024 * 1024
"""Limit on the size of waiting events: about 150,000 searches with ten hits."""
_FILE_BYTES = 4 * 1024 * 1024
_BATCH_BYTES = 1024 * 1024  # a line with a thousand clicks takes 200 KB, and many times that in memory
_CLOSED = -1  # not a valid descriptor, so it can never name another file


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines to deliver together, oldest first, and where they end in the journal."""

    entries: list[Entry]
    broken: list[tuple[bytes, str]]  # lines that hold no entry, with the reason
    file: int
    offset: int


class EventJournal:
    """The lines of one process, in its own folder below `folder`; adopts those of processes that died.

    Any thread may append; only one may read.

    Args:
        folder: On a local disk; created if missing.
        max_bytes: Limit on the total size of waiting lines.

    Attributes:
        refused: Events that the log will never accept.

    Raises:
        EventLogError: The folder cannot be written.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_WAITING_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()  # event loops wait for it, so it is never held during a disk sync
        self._syncing = threading.Lock()
        with _translate_errors(folder):
            self._folder, self._held = _claim(folder)
            try:
                _take_over(folder, self._folder)
                self._files = sorted(_numbered(self._folder))
                self._bytes = sum(self._path(file).stat().st_size for file in self._files)
                self._read_to = 0  # offset in the oldest file
                self._unsynced = set(self._files)  # files that are complete but not yet synced
                self._writing = self._open_next()
            except BaseException:
                self._held.close()
                raise
        self.refused = RefusedEvents(folder)

    @property
    def waiting_bytes(self) -> int:
        """Size of the lines that the log does not have yet."""
        return self._bytes - self._read_to

    def append(self, entry: Entry) -> None:
        """Add a line.

        Raises:
            EventLogError: The limit is reached, or the disk refused the write.
        """
        line = to_line(entry)
        with self._lock:
            if self._bytes + len(line) > self._max_bytes:
                raise EventLogError(
                    f"{self._bytes / 1e6:.0f} MB of events wait in {self._folder}, which is the limit: bring "
                    "the event log back"
                )
            with _translate_errors(self._folder):
                self._write(line)

    def sync(self) -> None:
        """Flush everything appended so far to the disk; other threads may append meanwhile.

        Raises:
            EventLogError: The disk refused.
        """
        with (
            self._syncing
        ):  # a second caller must not return while the first is still syncing files it needs too
            with self._lock:
                full, last = sorted(self._unsynced), self._files[-1]
            with _translate_errors(self._folder):
                for path in (
                    *map(self._path, [*full, last]),
                    self._folder,
                ):  # the folder holds the file names
                    _sync(path)
            with self._lock:
                self._unsynced.difference_update(full)

    def next(self, limit: int) -> Batch:
        """Up to `limit` undelivered lines, fewer if they are long.

        Returns the same lines until `delivered` is called.
        """
        with self._lock:
            files, offset = list(self._files), self._read_to
            # beyond it, a full disk may leave fragments for a moment
            complete = self._path(files[-1]).stat().st_size
        batch, size = Batch([], [], files[0], offset), 0
        for file in files:
            offset = offset if file == files[0] else 0
            with self._path(file).open("rb") as content:
                content.seek(offset)
                for line in content:
                    if len(batch.entries) == limit or size > _BATCH_BYTES:
                        return Batch(batch.entries, batch.broken, file, offset)
                    if not line.endswith(b"\n"):  # its process died
                        break
                    if file == files[-1] and offset + len(line) > complete:
                        break
                    try:
                        batch.entries.append(from_line(line))
                    except ValueError as error:
                        batch.broken.append((line, f"broken line of {content.name}: {error}"))
                    offset += len(line)
                    size += len(line)
        return Batch(batch.entries, batch.broken, files[-1], offset)

    def delivered(self, batch: Batch) -> None:
        """Advance past a batch that the log has recorded, and delete completed files."""
        with self._lock:
            done = [file for file in self._files if file < batch.file]
            self._files = self._files[len(done) :]
            self._bytes -= sum(self._path(file).stat().st_size for file in done)
            self._read_to = batch.offset
            self._unsynced.difference_update(done)
        for file in done:
            self._path(file).unlink()

    def close(self) -> None:
        """Release the folder and delete its files if nothing waits. May be called twice."""
        with self._lock:
            if self._held.closed:
                return
            os.close(self._writing)
            self._writing = _CLOSED
            if not self.waiting_bytes:
                for file in self._files:
                    self._path(file).unlink()
            self._held.close()

    def _write(self, line: bytes) -> None:
        size = os.fstat(self._writing).st_size
        if size + len(line) > _FILE_BYTES:
            full, before = self._files[-1], self._writing
            self._writing, size = self._open_next(), 0  # on an error the old file stays in use
            self._unsynced.add(full)
            os.close(before)
        written = os.write(self._writing, line)
        if written < len(line):  # the fragment would corrupt the next line
            os.ftruncate(self._writing, size)
            raise OSError(f"only {written} of {len(line)} bytes were written")
        self._bytes += written

    def _open_next(self) -> int:
        file = self._files[-1] + 1 if self._files else 0
        writing = os.open(self._path(file), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._files.append(file)
        return writing

    def _path(self, file: int) -> Path:
        return self._folder / f"{file:08d}.jsonl"


@contextmanager
def _translate_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EventLogError(
            f"events cannot be written to {folder} ({error}): check that the disk is not full and that this "
            "process may write there"
        ) from error


def _numbered(folder: Path) -> dict[int, Path]:
    return {int(path.stem): path for path in folder.glob("*.jsonl") if path.stem.isdecimal()}


def _sync(path: Path) -> None:
    """Flush a file or folder. A missing file has been delivered in the meantime."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _claim(folder: Path) -> tuple[Path, IO[str]]:
    """Lock the first numbered folder that no living process holds; returns it with its lock."""
    number = 0
    while True:
        own = folder / str(number)
        if held := _hold(own):
            return own, held
        number += 1


def _hold(own: Path) -> IO[str] | None:
    """Lock a folder for as long as this process lives; None if another process holds it."""
    own.mkdir(parents=True, exist_ok=True)
    held = (own / "held").open("a")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        return None
    except BaseException:
        held.close()
        raise
    return held


def _take_over(folder: Path, own: Path) -> None:
    """Adopt the files of dead processes, numbered after our own."""
    last = max(_numbered(own), default=-1)
    for other in sorted(folder.glob("*/")):
        if other == own or not (held := _hold(other)):
            continue
        with held:
            for _, path in sorted(_numbered(other).items()):
                last += 1
                path.rename(own / f"{last:08d}.jsonl")
