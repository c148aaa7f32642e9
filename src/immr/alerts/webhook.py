"""Alerts to a webhook of Slack, Mattermost or anything that takes `{"text": …}`.

An alert is written to a folder and sent by a background thread, so no caller waits for the network. If it cannot be
delivered, it stays in the folder, and this or a later process retries.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import threading
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from immr.alerts.alert import Alert
from immr.alerts.waiting_alerts import WaitingAlerts, is_old
from immr.machine.backoff import pause_s

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0
FIRST_PAUSE_S, MAX_PAUSE_S = 1.0, 60.0
_GRACE_S = 3.0  # for delivery when the process ends
_TEMPORARY = (408, 425, 429)


class Webhook:
    """`Alerts` to one URL. Thread-safe; several processes may share the folder."""

    def __init__(self, url: str, folder: Path, first_pause_s: float = FIRST_PAUSE_S) -> None:
        """`url` is a secret: it is never logged. `folder` holds the alerts that wait."""
        self._url, self._waiting, self._first_pause_s = url, WaitingAlerts(folder), first_pause_s
        self._opener = build_opener(_NoRedirects())
        self._wake, self._closing = threading.Event(), threading.Event()
        self._starting = threading.Lock()
        self._worker: threading.Thread | None = None

    def send(self, alert: Alert) -> None:
        """See `Alerts.send`. A full disk is logged."""
        self._waiting.add(alert)
        self.resume()

    def resume(self) -> None:
        """See `Alerts.resume`."""
        if self._waiting.files():
            self._deliver_soon()

    def close(self) -> None:
        """Give the last alerts three seconds to be delivered."""
        if self._worker is not None:
            self._closing.set()
            self._wake.set()
            self._worker.join(_GRACE_S)

    def _deliver_soon(self) -> None:
        with self._starting:
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="alerts", daemon=True)
                self._worker.start()
        self._wake.set()

    def _work(self) -> None:
        failures = 0
        while True:
            self._wake.clear()
            failures = 0 if self._try_to_deliver() else failures + 1
            if self._closing.is_set():
                return
            if failures:  # a new alert does not bring the next try forward
                self._closing.wait(pause_s(failures, self._first_pause_s, MAX_PAUSE_S))
            else:
                self._wake.wait()

    def _try_to_deliver(self) -> bool:
        """Whether nothing is left."""
        try:
            return self._deliver()
        except Exception as error:  # any error: without this thread no alert would be sent any more
            log.error("alerts in %s cannot be delivered now: %s", self._waiting.folder, error)
            return False

    def _deliver(self) -> bool:
        """Send what waits, oldest first; False if something is left."""
        with self._alone() as alone:
            for file in self._waiting.files() if alone else ():
                try:
                    content = file.read_bytes()
                except OSError:
                    continue
                if is_old(file):
                    log.error("an alert could not be delivered for a day and is dropped: %s", file.name)
                elif not self._post(content):
                    return False
                file.unlink(missing_ok=True)
            return alone

    def _post(self, content: bytes) -> bool:
        """Whether the alert is done with: delivered, or permanently refused."""
        request = Request(self._url, content, {"Content-Type": "application/json"})
        try:
            with self._opener.open(request, timeout=TIMEOUT_S):
                return True
        except HTTPError as error:
            with error:
                temporary = error.code >= 500 or error.code in _TEMPORARY
            log.warning("%s answered %d to an alert", self._host, error.code)
            if not temporary:
                log.error("%s refuses alerts: check IMMR_ALERT_URL", self._host)
            return not temporary
        except (OSError, ValueError, HTTPException) as error:
            log.warning("could not deliver an alert to %s: %s", self._host, type(error).__name__)
            return False

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether this process holds the delivery lock."""
        self._waiting.folder.mkdir(parents=True, exist_ok=True)
        with (self._waiting.folder / ".lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    @property
    def _host(self) -> str:
        return urlsplit(self._url).hostname or "the webhook"


class _NoRedirects(HTTPRedirectHandler):
    """A redirected POST would arrive as a GET."""

    def redirect_request(self, *arguments: Any) -> None:
        return None
