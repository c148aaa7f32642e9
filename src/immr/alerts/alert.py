"""An alert, and the port that the rest of IMMR sends it through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Alert:
    """What happened, in one line, and why or what to do about it."""

    title: str
    text: str
    link: str = ""  # where to read more


class Alerts(Protocol):
    """Delivers alerts. No method raises an error or waits for a receiver."""

    def send(self, alert: Alert) -> None:
        """Deliver an alert soon; if the receiver is down, later."""

    def resume(self) -> None:
        """Deliver what an earlier process could not; long-running processes call it every few seconds."""
