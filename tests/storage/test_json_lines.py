from __future__ import annotations

import logging
from pathlib import Path

import pytest

from immr.storage.json_lines import JsonLines

FIRST = {"action": "wait", "reason": "Noch zu früh.", "numbers": {"queries": 3.0}}
SECOND = {"action": "promote", "reason": "Better.", "numbers": {}}


def test_a_missing_file_has_no_decisions(tmp_path: Path) -> None:
    assert JsonLines(tmp_path / "log.jsonl").read() == []


def test_decisions_are_appended_in_order(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "new" / "log.jsonl")
    log.append(FIRST)
    log.append(SECOND)
    assert JsonLines(tmp_path / "new" / "log.jsonl").read() == [FIRST, SECOND]


def test_a_line_cut_off_by_a_crash_costs_only_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log.jsonl"
    log = JsonLines(path)
    log.append(FIRST)
    with path.open("ab") as file:
        file.write(b'{"ts": "2025-01')
    log.append(SECOND)
    with caplog.at_level(logging.WARNING):
        assert log.read() == [FIRST, SECOND]
    assert "line 2" in caplog.text
