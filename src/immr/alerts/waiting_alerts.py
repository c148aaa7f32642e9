"""Alerts that wait in a folder below IMMR_HOME until a process delivers them."""

from __future__ import annotations

import json
import logging
import secrets
import time
from pathlib import Path

from immr.alerts.alert import Alert
from immr.storage.atomic import write_atomically

log = logging.getLogger(__name__)

MAX_WAITING = 100
"""When more are waiting, the oldest is dropped."""
MAX_AGE_S = 24 * 3600.0
"""What has waited for longer is dropped."""


class WaitingAlerts:
    """`Alerts` of a process without IMMR_ALERT_URL: they wait for one that has it. Processes share the folder."""

    def __init__(self, folder: Path) -> None:
        """The folder is created by the first alert."""
        self.folder = folder

    def send(self, alert: Alert) -> None:
        """See `Alerts.send`; those older than a day are deleted, because there may never be a receiver."""
        self.add(alert)
        for file in filter(is_old, self.files()):
            file.unlink(missing_ok=True)

    def resume(self) -> None:
        """See `Alerts.resume`; nothing, because this process does not know the receiver."""

    def add(self, alert: Alert) -> None:
        """Store an alert; the oldest of too many is dropped. A full disk is logged."""
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}.json"
        try:
            write_atomically(self.folder / name, json.dumps(payload(alert)))
            for oldest in self.files()[:-MAX_WAITING]:
                oldest.unlink(missing_ok=True)
                log.error("more than %d alerts wait in %s: the oldest is dropped", MAX_WAITING, self.folder)
        except OSError as error:
            log.error("could not store the alert %r: %s", alert.title, error)

    def files(self) -> list[Path]:
        """Those that wait, oldest first; other files in the folder are not ours."""
        return sorted(file for file in self.folder.glob("*.json") if file.name[:20].isdecimal())


def is_old(file: Path) -> bool:
    """Whether an alert has waited for a day, by the time in its file's name."""
    return time.time() - int(file.name[:20]) / 1e9 > MAX_AGE_S


def payload(alert: Alert) -> dict[str, str]:
    """The alert in Slack's markup."""
    lines = [f"*{_escaped(alert.title)}*", _escaped(alert.text)]
    if alert.link:
        lines.append(f"<{alert.link}|Open the page>")
    return {"text": "\n".join(line for line in lines if line)}


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
