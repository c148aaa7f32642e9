"""Messages of libraries go to a file, so that stderr shows only IMMR's own."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

_OURS = ("immr", "serving", "dashboards", "components", "pipelines", "demo")
_BYTES, _KEPT = 2_000_000, 2


class UtcFormatter(logging.Formatter):
    """Writes times as ISO 8601 in UTC: `2026-05-01T12:00:00.000+00:00`. By default they are local, without a zone."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """The time of the record; `datefmt` has no effect."""
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def show_own_messages() -> None:
    """Print IMMR's messages from INFO on to stderr, as plain sentences."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.addFilter(_is_ours)
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def silence_the_end() -> None:
    """Drop what libraries print after this, the last of all exit handlers: DuckDB reports leaks of its own types."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)


@contextlib.contextmanager
def libraries_log_to(file: Path) -> Iterator[None]:
    """During the block, messages and warnings of libraries go to this file, which is created by the first of them."""
    handler = _FolderMakingHandler(file, maxBytes=_BYTES, backupCount=_KEPT, delay=True, encoding="utf-8")
    handler.setFormatter(UtcFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(lambda record: not _is_ours(record))
    root = logging.getLogger()
    root.addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        handler.close()


class _FolderMakingHandler(RotatingFileHandler):
    """Creates the file's folder with its first message. If the file cannot be written, the messages are lost."""

    def _open(self):  # type: ignore[no-untyped-def]
        Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        return super()._open()

    def handleError(self, record: logging.LogRecord) -> None:
        """Drop the message."""


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] in _OURS
