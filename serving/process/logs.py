"""What a serving process logs: its own messages, the warnings of libraries, and with JSON one line per search."""

from __future__ import annotations

import logging

from immr.machine import log_lines
from immr.machine.log_lines import Format

SEARCHES = "serving.searches"
"""The logger with one line per search, on only if lines go to a log store."""


def configure(log_format: Format, level: int = logging.INFO) -> None:
    """Sends the logs of `immr` and `serving`, and the warnings of all others, to stderr."""
    log_lines.configure(log_format, ("immr", "serving", "uvicorn"), level)
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)  # a Bento has no option to turn it off
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of every malformed form
    logging.getLogger(SEARCHES).setLevel(logging.INFO if log_format == "json" else logging.WARNING)
