import logging
from types import SimpleNamespace

import pytest

from immr.machine import repeated_messages
from immr.machine.repeated_messages import repeats_once_a_minute

log = logging.getLogger("immr.repeated")


def test_a_repeated_message_is_logged_once_a_minute_and_another_one_at_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now_s=0.0)
    monkeypatch.setattr(repeated_messages, "time", SimpleNamespace(monotonic=lambda: clock.now_s))
    with repeats_once_a_minute():
        for clock.now_s in (1000.0, 1002.0, 1058.0, 1060.0, 1062.0):
            log.warning("the disk is full: %s", "report.html")
        log.warning("the disk is full: %s", "other.html")
    assert caplog.messages == ["the disk is full: report.html"] * 2 + ["the disk is full: other.html"]
    log.warning("after")
    log.warning("after")
    assert caplog.messages[-2:] == ["after", "after"]
