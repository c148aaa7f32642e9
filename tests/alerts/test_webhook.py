"""Alerts reach a webhook in the background, in order, and survive an outage and the end of their process."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from immr.alerts import waiting_alerts, webhook
from immr.alerts.alert import Alert
from immr.alerts.waiting_alerts import MAX_WAITING
from immr.alerts.webhook import Webhook
from immr.errors import SettingsError
from immr.settings import Settings
from immr.wiring import connect
from tests.support.patience import until


class Receiver:
    """A webhook that answers with `statuses`, the last one for ever, and may hang until `release` is set."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.statuses = [200]
        self.release = threading.Event()
        self.release.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.release.wait(60)
                status = outer.statuses.pop(0) if len(outer.statuses) > 1 else outer.statuses[0]
                if status == 200:
                    outer.texts.append(body["text"])
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/secret"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.release.set()
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def opened(receiver: Receiver, tmp_path: Path) -> Iterator[Webhook]:
    hook = Webhook(receiver.url, tmp_path / "alerts", first_pause_s=0.01)
    yield hook
    receiver.statuses = [200]
    hook.close()


def waiting(folder: Path) -> int:
    return len(list((folder / "alerts").glob("*.json")))


def test_alerts_arrive_in_order_in_slacks_markup(opened: Webhook, receiver: Receiver, tmp_path: Path) -> None:
    opened.send(Alert("immr-3 was rolled back", "CTR < half & falling.", "http://page.example"))
    opened.send(Alert("immr-4 is the new champion", "It is better."))
    until(lambda: len(receiver.texts) == 2)
    assert receiver.texts[0] == (
        "*immr-3 was rolled back*\nCTR &lt; half &amp; falling.\n<http://page.example|Open the page>"
    )
    assert receiver.texts[1] == "*immr-4 is the new champion*\nIt is better."
    until(lambda: waiting(tmp_path) == 0)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_receiver_that_is_down_gets_the_alert_later(
    opened: Webhook, receiver: Receiver, tmp_path: Path, status: int
) -> None:
    receiver.statuses = [status, status, 200]
    opened.send(Alert("first", ""))
    until(lambda: waiting(tmp_path) == 0)
    assert (receiver.texts, receiver.statuses) == (["*first*"], [200])  # refused twice, then delivered once


@pytest.mark.parametrize("status", [400, 404, 410, 302])
def test_a_refused_alert_does_not_hold_up_the_next(
    opened: Webhook,
    receiver: Receiver,
    tmp_path: Path,
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver.statuses = [status, 200]
    with caplog.at_level(logging.ERROR):
        opened.send(Alert("refused", ""))
        opened.send(Alert("next", ""))
        until(lambda: receiver.texts == ["*next*"])
    assert "127.0.0.1 refuses alerts: check IMMR_ALERT_URL" in caplog.text
    assert "secret" not in caplog.text


def test_nobody_waits_for_a_receiver_that_hangs(
    opened: Webhook, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All alerts are sent while the first request hangs; the oldest of too many are dropped."""
    receiver.release.clear()
    for number in range(MAX_WAITING + 5):
        opened.send(Alert(f"alert {number}", ""))
    assert receiver.texts == []
    assert waiting(tmp_path) == MAX_WAITING
    monkeypatch.setattr(webhook, "_GRACE_S", 0.0)
    opened.close()
    assert receiver.texts == []
    receiver.release.set()


def test_a_later_process_delivers_what_an_earlier_one_could_not(receiver: Receiver, tmp_path: Path) -> None:
    receiver.statuses = [503]
    first = Webhook(receiver.url, tmp_path / "alerts")
    first.send(Alert("late", ""))
    first.close()
    assert waiting(tmp_path) == 1
    receiver.statuses = [200]
    second = Webhook(receiver.url, tmp_path / "alerts")
    second.resume()
    until(lambda: receiver.texts == ["*late*"])
    second.close()


def test_an_alert_of_yesterday_is_dropped(
    opened: Webhook,
    receiver: Receiver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver.statuses = [503]
    opened.send(Alert("old", ""))
    until(lambda: len(caplog.records) > 0)
    monkeypatch.setattr(waiting_alerts, "MAX_AGE_S", 0.0)
    until(lambda: waiting(tmp_path) == 0)
    assert receiver.texts == [] and "could not be delivered for a day" in caplog.text


def test_a_receiver_that_speaks_no_http_gets_the_alert_once_it_does(
    opened: Webhook, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setattr(opened, "_url", f"http://127.0.0.1:{other.getsockname()[1]}")
        opened.send(Alert("a", "b"))
        connection, _ = other.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(b"220 mail.example ESMTP\r\n")
    opened._url = receiver.url
    until(lambda: waiting(tmp_path) == 0)
    assert receiver.texts == ["*a*\nb"]


@pytest.mark.parametrize("answered", [b"", b"HTTP/1.1 503 Busy\r\n"])
def test_a_receiver_that_drips_its_answer_holds_up_no_alert(
    opened: Webhook, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, answered: bytes
) -> None:
    """The time limit was one for each read, so a byte now and then held delivery for hours."""
    monkeypatch.setattr(webhook, "TIMEOUT_S", 0.5)
    stopped = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as slow:

        def drip() -> None:
            connection, _ = slow.accept()
            with connection:
                connection.sendall(answered)
                while not stopped.wait(0.05):
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        return

        dripping = threading.Thread(target=drip)
        dripping.start()
        monkeypatch.setattr(opened, "_url", f"http://127.0.0.1:{slow.getsockname()[1]}")
        opened.send(Alert("a", "b"))
        dripping.join(20)  # the sender gives up
        gave_up = not dripping.is_alive()
        stopped.set()
    opened._url = receiver.url
    until(lambda: receiver.texts == ["*a*\nb"])
    assert gave_up


def test_a_proxy_delivers_alerts(receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", receiver.url.removesuffix("/services/secret"))
    hook = Webhook("http://hooks.example/services/secret", tmp_path / "alerts")
    hook.send(Alert("a", "b"))
    until(lambda: receiver.texts)
    hook.close()
    assert receiver.texts == ["*a*\nb"]


def test_a_folder_that_cannot_be_read_for_a_while_ends_no_delivery(
    opened: Webhook, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    deliver = opened._deliver
    results = iter([PermissionError("read-only"), None])

    def sometimes() -> bool:
        if error := next(results, None):
            raise error
        return deliver()

    monkeypatch.setattr(opened, "_deliver", sometimes)
    opened.send(Alert("a", "b"))
    until(lambda: receiver.texts == ["*a*\nb"])
    assert "cannot be delivered now: read-only" in caplog.text


def test_alerts_are_sent_after_more_failures_than_a_float_can_double(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a try per minute that is an outage of 17 hours, less than alerts are kept."""
    hook = Webhook(receiver.url, tmp_path / "alerts", first_pause_s=0.0)
    tries = iter(range(1100))
    deliver = hook._deliver
    monkeypatch.setattr(hook, "_deliver", lambda: next(tries, None) is None and deliver())
    hook.send(Alert("late", ""))
    until(lambda: receiver.texts)
    hook.close()
    assert receiver.texts == ["*late*"] and next(tries, None) is None


def test_a_file_of_someone_else_in_the_folder_holds_up_no_alert(
    opened: Webhook, receiver: Receiver, tmp_path: Path
) -> None:
    (tmp_path / "alerts").mkdir()
    foreign = tmp_path / "alerts" / "0-notes.json"  # sorts before every alert
    foreign.write_text("{}")
    receiver.statuses = [503, 200]
    opened.send(Alert("a", ""))
    until(lambda: receiver.texts == ["*a*"])
    assert foreign.read_text() == "{}"


def test_an_alert_that_cannot_be_kept_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "alerts").write_text("a file, not a folder")
    with caplog.at_level(logging.ERROR):
        Webhook("http://127.0.0.1:9", tmp_path / "alerts").send(Alert("lost", ""))
    assert "could not store the alert 'lost'" in caplog.text


def test_an_alert_of_a_process_without_the_url_is_delivered_by_one_that_has_it(
    receiver: Receiver, tmp_path: Path
) -> None:
    """A command that completed another's decision without IMMR_ALERT_URL lost its alert."""
    with connect(Settings(home=tmp_path)) as parts:
        parts.alerts.send(Alert("immr-2 is the new champion", ""))
        parts.alerts.resume()
    with connect(Settings(home=tmp_path, alert_url=receiver.url)) as parts:
        parts.alerts.resume()
        until(lambda: receiver.texts == ["*immr-2 is the new champion*"])
    assert waiting(tmp_path) == 0


def test_the_settings_choose_the_receiver(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="IMMR_ALERT_URL begins with 'ftp://'"):
        _ = connect(Settings(home=tmp_path, alert_url="ftp://secret.example")).alerts
