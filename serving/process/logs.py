"""Log lines: for people, or one JSON object each (`IMMR_LOG_FORMAT=json`) that a log store can search.

What belongs to a line beyond its sentence comes as `extra={"said": {...}}`: never a secret, never a photo.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

Format = Literal["text", "json"]
SEARCHES = "serving.searches"
"""The log with a line per search: only where lines go to a store that can search them."""


def configure(log_format: Format, level: int = logging.INFO) -> None:
    """Send the log of `immr` and `serving`, and warnings of all others, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(log_format))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in ("immr", "serving", "uvicorn"):
        logging.getLogger(name).setLevel(level)
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)  # in a Bento it cannot be turned off
    logging.getLogger(SEARCHES).setLevel(logging.INFO if log_format == "json" else logging.WARNING)


def formatter(log_format: Format) -> logging.Formatter:
    """How a line looks."""
    return _Json() if log_format == "json" else _Text("%(asctime)s %(levelname)s %(name)s %(message)s")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "said", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = getattr(record, "said", {})
        return " ".join([super().format(record), *(f"{name}={value}" for name, value in said.items())])
