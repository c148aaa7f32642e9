"""The page's metrics for Prometheus."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dashboards.page_metrics import PageMetrics


def fails() -> Any:
    raise RuntimeError("database is locked")


def test_a_part_that_fails_hides_no_other(caplog: pytest.LogCaptureFixture) -> None:
    live: Any = SimpleNamespace(
        standing=SimpleNamespace(latest=lambda: None), decisions=lambda: [{"action": "promote"}]
    )
    lineage: Any = SimpleNamespace(versions=fails, features_from=lambda: None, drift=lambda: None)
    text = PageMetrics(live, lineage).text().decode()
    assert 'immr_decisions{action="promote"} 1.0' in text
    assert "metrics are missing: RuntimeError: database is locked" in caplog.text
