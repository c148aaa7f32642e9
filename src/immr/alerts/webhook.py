"""Alerts to a webhook of Slack, Mattermost or anything that takes `{"text": …}`.

An alert is written to a folder and sent by a background thread, so no caller waits for the network. If it cannot be
delivered, it stays in the folder, and this or a later process retries.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore

from immr.alerts.alert import Alert
from immr.alerts.waiting_alerts import WaitingAlerts, is_old
from immr.machine.backoff import pause_s
from immr.machine.deadline import DeadlineNetwork

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0  # for the whole request
FIRST_PAUSE_S, MAX_PAUSE_S = 1.0, 60.0
_GRACE_S = 3.0  # for delivery when the process ends
_TEMPORARY = (408, 425, 429)
_NETWORK_ERRORS = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)


class Webhook:
    """`Alerts` to one URL. Thread-safe; several processes may share the folder."""

    def __init__(self, url: str, folder: Path, first_pause_s: float = FIRST_PAUSE_S) -> None:
        """`url` is a secret: it is never logged. `folder` holds the alerts that wait."""
        self._url, self._waiting, self._first_pause_s = url, WaitingAlerts(folder), first_pause_s
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
        try:
            status = _status_of(self._url, content)
        except (OSError, ValueError, *_NETWORK_ERRORS) as error:
            log.warning("could not deliver an alert to %s: %s", self._host, type(error).__name__)
            return False
        if 200 <= status < 300:
            return True
        temporary = status >= 500 or status in _TEMPORARY
        log.warning("%s answered %d to an alert", self._host, status)
        if not temporary:
            log.error("%s refuses alerts: check IMMR_ALERT_URL", self._host)
        return not temporary

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


def _status_of(url: str, content: bytes) -> int:
    """POST; the status of the answer. A redirect is not followed, because it would make it a GET."""
    network = DeadlineNetwork()
    network.start(TIMEOUT_S)
    headers = [("Content-Type", "application/json")]
    with (
        _connections(url, network) as pool,
        pool.stream("POST", url, headers=headers, content=content) as answer,
    ):
        return answer.status


def _connections(url: str, network: DeadlineNetwork) -> httpcore.ConnectionPool:
    """Through the proxy that HTTPS_PROXY and its siblings name, if there is one."""
    trusted = ssl.create_default_context()
    host = urlsplit(url).hostname or ""
    proxy = "" if proxy_bypass(host) else getproxies().get(urlsplit(url).scheme, "")
    if not proxy:
        return httpcore.ConnectionPool(ssl_context=trusted, network_backend=network)
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    login = (unquote(parts.username or ""), unquote(parts.password or "")) if parts.username else None
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return httpcore.HTTPProxy(address, proxy_auth=login, ssl_context=trusted, network_backend=network)
