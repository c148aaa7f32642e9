"""Query photos, kept only where someone asked for it: files named by content, and which query sent which.

Photos may show people and homes. Nothing is kept by default; `forget` deletes what is older than it must be.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from immr.storage.atomic import write_atomically

_LOG = logging.getLogger(__name__)
_KINDS = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png", b"RIFF": "webp", b"GIF8": "gif", b"BM": "bmp"}


class PhotoStore:
    """A folder of photos; safe to share between threads and processes of one machine.

    Args:
        folder: Made with the first photo.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, query_id: str, content: bytes) -> Path:
        """Keep a query's photo; the same bytes are kept once.

        Raises:
            OSError: the folder does not take it.
        """
        digest = sha256(content).hexdigest()
        path = self._folder / digest[:2] / f"{digest}.{_kind(content)}"
        if not path.is_file():
            write_atomically(path, content)
        line = json.dumps({"query_id": query_id, "photo": f"{digest[:2]}/{path.name}"}) + "\n"
        # One write to a file that is opened to append: lines of other processes stay whole.
        handle = os.open(self._index, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)
        return path

    def by_query(self) -> dict[str, Path]:
        """Where each query's photo is; those that are gone are left out."""
        if not self._index.is_file():
            return {}
        photos: dict[str, Path] = {}
        for number, line in enumerate(self._index.read_bytes().splitlines(), start=1):
            try:
                entry = json.loads(line)
                photos[entry["query_id"]] = self._folder / entry["photo"]
            except (ValueError, KeyError, TypeError):
                _LOG.warning("left out line %d of %s: it was cut off while written", number, self._index)
        there = {path for path in set(photos.values()) if path.is_file()}
        return {query_id: path for query_id, path in photos.items() if path in there}

    def forget(self, before: datetime) -> int:
        """Delete photos that were first kept before this moment; returns how many."""
        old = [path for path in self._folder.glob("??/*") if path.stat().st_mtime < before.timestamp()]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    @property
    def _index(self) -> Path:
        return self._folder / "queries.jsonl"


def _kind(content: bytes) -> str:
    return next((kind for start, kind in _KINDS.items() if content.startswith(start)), "img")
