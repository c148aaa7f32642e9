"""Events that the log will never accept: kept in a file with the reason, so that they block no others."""

from __future__ import annotations

import json
import logging
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

_LOG = logging.getLogger(__name__)
_MAX_FILE_BYTES = 64 * 1024 * 1024


class RefusedEvents:
    """`refused.jsonl`: one line per refused event with the time, the reason and the event. Thread safe.

    Processes may share the file. At 64 MB it is full: further events are only counted and logged.

    Attributes:
        count: Events refused since this object was created.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "refused.jsonl"
        self.count = 0
        self._lock = threading.Lock()

    def add(self, line: bytes, reason: str) -> None:
        """Set an event aside; never raises, because the events behind it must not wait.

        Args:
            line: The event as it was in the journal.
            reason: Why it was refused.
        """
        with self._lock:
            self.count += 1
            _LOG.error("an event was refused and set aside in %s: %s", self.path, reason)
            now = datetime.now(UTC).isoformat()
            event = line.decode("utf-8", "replace").rstrip("\n")
            content = json.dumps({"ts": now, "reason": reason, "event": event}, ensure_ascii=False)
            try:
                self._append(content.encode("utf-8", "replace") + b"\n")
            except OSError as error:
                _LOG.error("%s cannot be written (%s); the refused event: %s", self.path, error, event)

    def _append(self, content: bytes) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            if os.fstat(descriptor).st_size + len(content) > _MAX_FILE_BYTES:
                _LOG.error("%s is full: the refused event is dropped", self.path)
            else:
                os.write(descriptor, content)  # one write, so that lines never interleave
        finally:
            os.close(descriptor)
