"""Events on their way to the log: lines in local files, which outlive this process and a log that is away.

A line is in the kernel's hands once `append` returns: it survives SIGKILL, and with `sync` a power cut too.
Files are read back in order and deleted once the log has taken all of their lines; after a crash a part is
delivered again, which the log's ids make harmless.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import IO, Any, TypeVar

from immr.errors import EventLogError
from immr.types import Click, Impression, SearchRecord

T = TypeVar("T", SearchRecord, Click)
_LOG = logging.getLogger(__name__)

MAX_WAITING_BYTES = 256 * 1024 * 1024
"""About 150,000 searches of ten hits: the most that waits while the log is away."""
_FILE_BYTES = 4 * 1024 * 1024
_BATCH_BYTES = 1024 * 1024  # a line of a thousand clicks has 200 KB, and many times as much in memory
_CLOSED = -1  # a number that no other file can get meanwhile
_SEARCH_FIELDS = [field.name for field in fields(SearchRecord)]


@dataclass(frozen=True, slots=True)
class Shown:
    """A search and the items that it showed, by position."""

    search: SearchRecord
    items: tuple[tuple[str, int], ...]  # item_id, 1-based position
    versions: tuple[str, ...] = ()  # where the answer is interleaved: which model version each item is from

    @property
    def impressions(self) -> list[Impression]:
        """What the event log records of it."""
        of = self.search
        versions = self.versions or (of.model_version,) * len(self.items)
        return [
            Impression(of.query_id, item_id, position, of.user_id, of.variant, version, of.ts)
            for (item_id, position), version in zip(self.items, versions, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Clicked:
    """Clicks and orders that came in one request, all of one type, variant and model version."""

    clicks: tuple[Click, ...]
    ticket: str  # by which this process knows its own
    variant: str
    model_version: str


Entry = Shown | Clicked


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines that are to be delivered together, oldest first, and where they end."""

    entries: list[Entry]
    file: int
    offset: int


class EventJournal:
    """One process's lines, in a folder of its own below `folder`; takes over those of processes that died.

    Safe to append to from several threads; one thread reads.

    Args:
        folder: On a local disk; made if needed.
        max_bytes: More than this does not wait.

    Raises:
        EventLogError: the folder cannot be written.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_WAITING_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()  # event loops wait for it: nobody waits for the disk under it
        self._syncing = threading.Lock()
        try:
            self._folder, self._held = _claim(folder)
            _take_over(folder, self._folder)
            self._files = sorted(int(path.stem) for path in self._folder.glob("*.jsonl"))
            self._bytes = sum(self._path(file).stat().st_size for file in self._files)
            self._read_to = 0  # in the oldest file
            self._full = set(self._files)  # files that get no more lines, and were not synced yet
            self._writing = self._open_next()
        except OSError as error:
            raise EventLogError(
                f"events cannot wait in {folder} ({error}): give this process a folder that it may write to"
            ) from error

    @property
    def waiting_bytes(self) -> int:
        """What the log has yet to take."""
        return self._bytes - self._read_to

    def append(self, entry: Entry) -> None:
        """Add a line.

        Raises:
            EventLogError: as much waits as may, or the disk does not take it.
        """
        line = _line(entry)
        with self._lock:
            if self._bytes + len(line) > self._max_bytes:
                raise EventLogError(
                    f"{self._bytes / 1e6:.0f} MB of events wait in {self._folder} and no more may: "
                    "bring the event log back"
                )
            try:
                self._write(line)
            except OSError as error:
                raise EventLogError(f"{self._folder} takes no event ({error}): is the disk full?") from error

    def sync(self) -> None:
        """Bring what was appended to the disk; more may be appended meanwhile.

        Raises:
            EventLogError: the disk does not take it.
        """
        with self._syncing:  # the second must not return while the first still syncs files that it needs too
            with self._lock:
                full, last = sorted(self._full), self._files[-1]
            try:
                for path in (*map(self._path, [*full, last]), self._folder):  # it holds the files' names
                    _sync(path)
            except OSError as error:
                raise EventLogError(f"{self._folder} takes no event ({error}): is the disk full?") from error
            with self._lock:
                self._full.difference_update(full)

    def next(self, limit: int) -> Batch:
        """Up to `limit` lines that were not delivered, fewer where they are long.

        The same again until `delivered`.
        """
        with self._lock:
            files, offset = list(self._files), self._read_to
        entries: list[Entry] = []
        size = 0
        for file in files:
            offset = offset if file == files[0] else 0
            with self._path(file).open("rb") as content:
                content.seek(offset)
                for line in content:
                    if len(entries) == limit or size > _BATCH_BYTES:
                        return Batch(entries, file, offset)
                    if not line.endswith(b"\n"):  # its process died, or is writing just now
                        break
                    entries += _entries(line, content)
                    offset += len(line)
                    size += len(line)
        return Batch(entries, files[-1], offset)

    def delivered(self, batch: Batch) -> None:
        """The log has these; files that are through are deleted."""
        with self._lock:
            through = [file for file in self._files if file < batch.file]
            self._files = self._files[len(through) :]
            self._bytes -= sum(self._path(file).stat().st_size for file in through)
            self._read_to = batch.offset
            self._full.difference_update(through)
        for file in through:
            self._path(file).unlink()

    def close(self) -> None:
        """Let go of the folder; where nothing waits, nothing is left. A second time does nothing."""
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
            self._writing, size = self._open_next(), 0  # an error leaves the old one open
            self._full.add(full)
            os.close(before)
        written = os.write(self._writing, line)
        if written < len(line):  # what is there of it would spoil the next line
            os.ftruncate(self._writing, size)
            raise OSError(f"it took {written} of {len(line)} bytes")
        self._bytes += written

    def _open_next(self) -> int:
        file = self._files[-1] + 1 if self._files else 0
        writing = os.open(self._path(file), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._files.append(file)
        return writing

    def _path(self, file: int) -> Path:
        return self._folder / f"{file:08d}.jsonl"


def _sync(path: Path) -> None:
    """Wait until the disk has it; one that is gone is in the log."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _claim(folder: Path) -> tuple[Path, IO[str]]:
    """The first folder below that no living process holds, and its lock."""
    number = 0
    while True:
        own = folder / str(number)
        if held := _hold(own):
            return own, held
        number += 1


def _hold(own: Path) -> IO[str] | None:
    """The folder's lock, which is let go with the process, however that ends; None where another has it."""
    own.mkdir(parents=True, exist_ok=True)
    held = (own / "held").open("a")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        return None
    return held


def _take_over(folder: Path, own: Path) -> None:
    """Move what dead processes left behind to the end of our own."""
    last = max((int(path.stem) for path in own.glob("*.jsonl")), default=-1)
    for other in sorted(folder.glob("*/")):
        if other == own or not (held := _hold(other)):
            continue
        with held:
            for path in sorted(other.glob("*.jsonl")):
                last += 1
                path.rename(own / f"{last:08d}.jsonl")


def _line(entry: Entry) -> bytes:
    content: dict[str, Any]
    if isinstance(entry, Shown):
        search = {name: getattr(entry.search, name) for name in _SEARCH_FIELDS}  # asdict copies deep: slower
        content = {"search": search, "items": entry.items, "versions": entry.versions}
    else:
        content = asdict(entry)
    text = json.dumps(content, default=datetime.isoformat, separators=(",", ":"), ensure_ascii=False)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError as error:  # half a surrogate pair: no log would take it
        raise EventLogError(f"an event holds what is no text ({error})") from error


def _entries(line: bytes, file: IO[bytes]) -> list[Entry]:
    """The line's entry; none where it cannot be read, which must not hold up the others."""
    try:
        content = json.loads(line)
        if "search" in content:
            items = tuple((str(item_id), int(position)) for item_id, position in content["items"])
            versions = tuple(map(str, content.get("versions", ())))  # a line of an older release has none
            return [Shown(_record(SearchRecord, content["search"]), items, versions)]
        clicks = tuple(_record(Click, click) for click in content["clicks"])
        return [Clicked(clicks, content["ticket"], content["variant"], content["model_version"])]
    except (ValueError, TypeError, KeyError) as error:
        _LOG.error("left out a broken line of %s (%s)", file.name, error)
        return []


def _record(kind: type[T], values: Mapping[str, Any]) -> T:
    """What a newer release has written too is left out: it may be taken back while its lines wait."""
    known = {field.name: values[field.name] for field in fields(kind) if field.name in values}
    return kind(**known | {"ts": datetime.fromisoformat(values["ts"])})
