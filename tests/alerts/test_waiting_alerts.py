"""Alerts in the folder of a home whose processes have no receiver do not pile up."""

from pathlib import Path

import pytest

from immr.alerts import waiting_alerts
from immr.alerts.alert import Alert
from immr.alerts.waiting_alerts import WaitingAlerts


def test_only_the_alerts_of_the_last_day_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alerts = WaitingAlerts(tmp_path / "alerts")
    alerts.resume()
    assert not alerts.folder.exists()
    alerts.send(Alert("first", ""))
    alerts.send(Alert("second", ""))
    assert [file.read_text() for file in alerts.files()] == ['{"text": "*first*"}', '{"text": "*second*"}']
    monkeypatch.setattr(waiting_alerts, "MAX_AGE_S", -1.0)
    alerts.send(Alert("third", ""))
    assert alerts.files() == []


def test_the_oldest_of_too_many_is_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    alerts = WaitingAlerts(tmp_path / "alerts")
    for number in range(waiting_alerts.MAX_WAITING + 1):
        alerts.send(Alert(str(number), ""))
    assert len(alerts.files()) == waiting_alerts.MAX_WAITING
    assert alerts.files()[0].read_text() == '{"text": "*1*"}' and "the oldest is dropped" in caplog.text
