"""Requests through a Unix socket: answered one after the other, and only while somebody listens."""

from __future__ import annotations

import logging
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from immr.machine.unix_socket import answering, ask


def test_requests_are_answered_during_the_block(tmp_path: Path) -> None:
    path, body = tmp_path / "socket", b"x" * 1_000_000
    assert ask(path, body) == b""
    with answering(path, lambda given: given[::-1] + b"!"):
        with ThreadPoolExecutor(8) as callers:
            answers = list(callers.map(lambda number: ask(path, b"%d." % number + body), range(8)))
        assert answers == [body + b".%d!" % number for number in range(8)]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (ask(path, body), path.exists()) == (b"", False)


def test_a_socket_that_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "socket").touch()
    with answering(tmp_path / "socket", bytes.upper):
        assert ask(tmp_path / "socket", b"there") == b"THERE"


def test_an_error_gives_an_empty_answer_and_the_next_request_works(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with answering(tmp_path / "socket", lambda body: b"%d" % (6 // int(body))):
        assert [ask(tmp_path / "socket", body) for body in (b"0", b"2")] == [b"", b"3"]
    assert "ZeroDivisionError" in caplog.text


def test_a_path_that_is_too_long_for_a_socket_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / ("long" * 30)
    with caplog.at_level(logging.WARNING), answering(path, bytes.upper):
        assert ask(path, b"there") == b""
    assert str(path) in caplog.text
