"""Log lines of servers: for people, or as one JSON object each (`IMMR_LOG_FORMAT=json`) for a log store.

`extra={"fields": {...}}` adds fields to a line: never a secret, never a photo.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal, get_args

from immr.errors import SettingsError
from immr.machine.library_log import UtcFormatter

Format = Literal["text", "json"]
_VARIABLE = "IMMR_LOG_FORMAT"


def format_in(environment: Mapping[str, str]) -> Format:
    """The format that IMMR_LOG_FORMAT asks for; text by default.

    Raises:
        SettingsError: It is none of the formats.
    """
    wanted = environment.get(_VARIABLE, "text")
    for each in get_args(Format):
        if each == wanted:
            return each  # type: ignore[no-any-return]
    raise SettingsError(f"{_VARIABLE}={wanted!r}: give one of {', '.join(get_args(Format))}, or unset it")


def configure(log_format: Format, loggers: Sequence[str], level: int = logging.INFO) -> None:
    """Send the messages of these loggers from `level` on, and the warnings of all others, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(log_format))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in loggers:
        logging.getLogger(name).setLevel(level)


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
