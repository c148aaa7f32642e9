"""Alerts that a test can read."""

from __future__ import annotations

from immr.alerts.alert import Alert


class SentAlerts:
    """`Alerts` that keeps what was sent."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []

    def send(self, alert: Alert) -> None:
        self.alerts.append(alert)

    def resume(self) -> None:
        pass

    @property
    def titles(self) -> list[str]:
        return [alert.title for alert in self.alerts]
