"""Query photos: files named by their content, and an index of which query sent which photo.

Photos may show people and homes, so by default they are not kept. Kept photos are deleted after
`IMMR_KEEP_PHOTOS_DAYS`.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from immr.machine.wording import counted
from immr.storage.atomic import write_atomically
from immr.storage.database import database, quoted

_LOG = logging.getLogger(__name__)
_KINDS = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png", b"RIFF": "webp", b"GIF8": "gif", b"BM": "bmp"}
_SWEEP_INTERVAL_S = 3600.0
_LINES_PER_BATCH = 10_000
_LAST_OF_QUERY = """COPY (
    SELECT query_id, arg_max(image, number) AS image FROM read_parquet({lines}) GROUP BY query_id HAVING image <> ''
) TO {file} (FORMAT parquet)"""


@dataclass(frozen=True, slots=True)
class _Sent:
    """A line of the index: a query and its photo, as a path below the folder."""

    query_id: str
    photo: str
    ts: float | None = None  # seconds since 1970; None in lines of older releases


class PhotoStore:
    """A folder of photos, shared by the threads and processes of one machine.

    Args:
        folder: Created by the first photo.
        max_age: `keep` deletes photos that were last sent longer ago than this, at most once an hour; None
            never deletes.
    """

    def __init__(self, folder: Path, max_age: timedelta | None = None) -> None:
        self._folder = folder
        self._index = folder / "queries.jsonl"
        self._max_age = max_age
        self._next_sweep = 0.0
        self._sweeping = threading.Lock()

    def keep(self, query_id: str, content: bytes) -> Path:
        """Keep a query's photo; identical photos share one file.

        Raises:
            OSError: The folder cannot be written.
        """
        self.forget_expired()
        digest = sha256(content).hexdigest()
        name = f"{digest[:2]}/{digest}.{_kind(content)}"
        path = self._folder / name
        sent = _Sent(query_id, name, time.time())
        with self._locked(fcntl.LOCK_SH):
            if not path.is_file():
                write_atomically(path, content)
            self._append(_line(sent))
        return path

    def _append(self, line: bytes) -> None:
        """One write, so that lines of several processes never interleave; a full disk may cut a line short."""
        handle = os.open(self._index, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                line = b"\n" + line
            if os.write(handle, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._index))
        finally:
            os.close(handle)

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """The photo of each query, in a Parquet file that is deleted at the end; an index may be very long.

        Columns: `query_id`, and `image`, an absolute path. Queries whose photo was deleted are left out.
        """
        with TemporaryDirectory(prefix="immr-photos-") as folder:
            lines, file = Path(folder) / "lines.parquet", Path(folder) / "photos.parquet"
            self._write_lines(lines)
            with database() as base:
                base.execute(_LAST_OF_QUERY.format(lines=quoted(lines), file=quoted(file)))
            yield file

    def _write_lines(self, file: Path) -> None:
        """Every line of the index; the image is empty if it was deleted."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema([("query_id", pa.string()), ("image", pa.string()), ("number", pa.int64())])
        lines = enumerate(self._sent())
        with pq.ParquetWriter(file, schema) as writer:
            while part := list(islice(lines, _LINES_PER_BATCH)):
                paths = [(self._folder / sent.photo).absolute() for _, sent in part]
                columns = [
                    [sent.query_id for _, sent in part],
                    [str(path) if path.is_file() else "" for path in paths],
                    [number for number, _ in part],
                ]
                writer.write_table(pa.table(columns, schema=schema))

    def forget_expired(self) -> int:
        """Delete photos older than `max_age`, unless that was done within the last hour.

        Errors are logged, and deletion is retried after an hour.

        Returns:
            The number of photos deleted.
        """
        if self._max_age is None or not self._sweeping.acquire(blocking=False):
            return 0
        try:
            if time.monotonic() < self._next_sweep:
                return 0
            self._next_sweep = time.monotonic() + _SWEEP_INTERVAL_S
            return self.forget(datetime.now(UTC) - self._max_age)
        except OSError as error:
            _LOG.error("expired photos in %s were not deleted: %s", self._folder, error)
            return 0
        finally:
            self._sweeping.release()

    def forget(self, before: datetime) -> int:
        """Delete the photos that were last sent before this moment, and their lines in the index.

        Returns:
            The number of photos deleted.

        Raises:
            OSError: The folder cannot be written.
        """
        if not self._folder.is_dir():
            return 0
        with self._locked(fcntl.LOCK_EX):
            photos = {path: path.stat().st_mtime for path in self._folder.glob("??/*.*")}
            kept = []
            for sent in self._sent():
                path = self._folder / sent.photo
                sent_at = photos.get(path, 0.0) if sent.ts is None else sent.ts
                if path in photos and sent_at >= before.timestamp():
                    kept.append(sent)
            if self._index.is_file():
                write_atomically(self._index, b"".join(map(_line, kept)))
            in_use = {self._folder / sent.photo for sent in kept}
            old = [path for path, m in photos.items() if m < before.timestamp() and path not in in_use]
            for path in old:
                path.unlink(missing_ok=True)
        if old:
            _LOG.info("deleted %s last sent before %s", counted(len(old), "photo"), before.isoformat())
        return len(old)

    def _sent(self) -> Iterator[_Sent]:
        """The lines of the index, oldest first."""
        if not self._index.is_file():
            return
        with self._index.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    entry = json.loads(line)
                    yield _Sent(entry["query_id"], entry["photo"], entry.get("ts"))
                except (ValueError, KeyError, TypeError):
                    _LOG.warning("skipped line %d of %s: it is incomplete", number, self._index)

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        """Keep writers (shared) and the rewriting of the index (exclusive) apart."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / ".lock").open("a") as file:
            fcntl.flock(file, kind)
            yield


def _line(sent: _Sent) -> bytes:
    return json.dumps(asdict(sent)).encode() + b"\n"


def _kind(content: bytes) -> str:
    return next((kind for start, kind in _KINDS.items() if content.startswith(start)), "img")
