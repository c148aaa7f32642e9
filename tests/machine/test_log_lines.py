import json
import logging
import sys
import time

import pytest

from immr.errors import SettingsError
from immr.machine.log_lines import format_in, formatter


def record(error: bool = False) -> logging.LogRecord:
    try:
        if error:
            raise ValueError("broken")
    except ValueError:
        exc_info = sys.exc_info()
    made = logging.LogRecord(
        "immr.x", logging.WARNING, "f", 1, "searched %s", ("tea",), exc_info if error else None
    )
    made.fields = {"took_ms": 3, "user": "änn"}
    return made


def test_json_is_one_object_with_the_fields() -> None:
    line = formatter("json").format(record(error=True))
    assert "\n" not in line
    found = json.loads(line)
    assert (found["level"], found["logger"], found["message"]) == ("warning", "immr.x", "searched tea")
    assert (found["took_ms"], found["user"]) == (3, "änn")
    assert "ValueError: broken" in found["exception"]


def test_text_begins_with_a_time_that_has_a_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    made = record()
    made.created = 1_780_000_000.5
    try:
        assert formatter("text").format(made).startswith("2026-05-28T20:26:40.500+00:00 WARNING ")
    finally:
        monkeypatch.undo()
        time.tzset()


def test_text_ends_with_the_fields() -> None:
    assert formatter("text").format(record()).endswith("WARNING immr.x searched tea took_ms=3 user=änn")


def test_the_format_is_named_in_the_environment() -> None:
    assert [format_in({}), format_in({"IMMR_LOG_FORMAT": "json"})] == ["text", "json"]
    with pytest.raises(SettingsError, match="IMMR_LOG_FORMAT='xml': give one of text, json"):
        format_in({"IMMR_LOG_FORMAT": "xml"})
