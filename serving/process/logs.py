"""Log lines for people, or as one JSON object each (`IMMR_LOG_FORMAT=json`) for a log store.

`extra={"fields": {...}}` adds fields to a line: never a secret, never a photo.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

from immr.machine.library_log import UtcFormatter

Format = Literal["text", "json"]
SEARCHES = "serving.searches"
"""The logger with one line per search, on only if lines go to a log store."""


def configure(log_format: Format, level: int = logging.INFO) -> None:
    """Sends the logs of `immr` and `serving`, and the warnings of all others, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(log_format))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in ("immr", "serving", "uvicorn"):
        logging.getLogger(name).setLevel(level)
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)  # a Bento has no option to turn it off
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of every malformed form
    logging.getLogger(SEARCHES).setLevel(logging.INFO if log_format == "json" else logging.WARNING)


def formatter(log_format: Format) -> logging.Formatter:
    """The formatter of a line."""
    return _Json() if log_format == "json" else _Text("%(asctime)s %(levelname)s %(name)s %(message)s")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class _Text(UtcFormatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        return " ".join([super().format(record), *(f"{name}={value}" for name, value in fields.items())])
