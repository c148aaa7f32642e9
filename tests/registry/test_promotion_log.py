from __future__ import annotations

import logging
from pathlib import Path

import pytest

from immr.registry.promotion_log import PromotionLog


def test_no_file_is_no_decision(tmp_path: Path) -> None:
    assert PromotionLog(tmp_path / "log.jsonl").read() == []


def test_decisions_are_appended_in_order(tmp_path: Path) -> None:
    log = PromotionLog(tmp_path / "new" / "log.jsonl")
    first = log.record("wait", "Noch zu früh.", {"queries": 3.0}, "immr-1", "immr-2")
    second = log.record("promote", "Better.", {}, "immr-1", "immr-2")
    assert PromotionLog(tmp_path / "new" / "log.jsonl").read() == [first, second]


def test_a_line_cut_off_by_a_crash_costs_only_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log.jsonl"
    log = PromotionLog(path)
    first = log.record("wait", "Too early.", {}, None, "immr-1")
    with path.open("ab") as file:
        file.write(b'{"ts": "2025-01')
    second = log.record("keep", "No better.", {}, None, "immr-1")
    with caplog.at_level(logging.WARNING):
        assert log.read() == [first, second]
    assert "line 2" in caplog.text
