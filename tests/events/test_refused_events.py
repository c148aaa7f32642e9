from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from immr.events.refused_events import RefusedEvents


def test_each_refused_event_is_a_line_with_its_reason(tmp_path: Path) -> None:
    refused = RefusedEvents(tmp_path)
    refused.add(b'{"a": 1}\n', "no user_id")
    refused.add(b"\xff\n", "not text")
    lines = [json.loads(line) for line in refused.path.read_text().splitlines()]
    assert [(line["reason"], line["event"]) for line in lines] == [
        ("no user_id", '{"a": 1}'),
        ("not text", "\ufffd"),
    ]
    assert refused.count == 2


def test_a_full_file_still_counts_and_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("immr.events.refused_events._MAX_FILE_BYTES", 10)
    refused = RefusedEvents(tmp_path)
    with caplog.at_level(logging.ERROR):
        refused.add(b"{}\n", "no user_id")
    assert (refused.count, refused.path.stat().st_size) == (1, 0)
    assert "no user_id" in caplog.text and "is full" in caplog.text


def test_a_folder_that_cannot_be_written_is_only_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    refused = RefusedEvents(tmp_path / "missing")
    with caplog.at_level(logging.ERROR):
        refused.add(b"the event\n", "no user_id")
    assert refused.count == 1
    assert "the event" in caplog.text
