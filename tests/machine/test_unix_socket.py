"""Requests through a Unix socket: answered one after the other, and only while somebody listens."""

from __future__ import annotations

import logging
import socket
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event

import pytest

from immr.machine import unix_socket
from immr.machine.unix_socket import answering
from tests.support.patience import until


def ask(path: Path, body: bytes) -> bytes:
    return unix_socket.ask(path, body, timeout_s=60)


@contextmanager
def one_is_being_answered(path: Path) -> Iterator[tuple[list[bytes], Event]]:
    """The bodies of requests so far; the first of them is answered once the event is set."""
    bodies, release = list[bytes](), Event()

    def answer(body: bytes) -> bytes:
        bodies.append(body)
        assert release.wait(60)
        return body.upper()

    with answering(path, answer), ThreadPoolExecutor(1) as others:
        first = others.submit(ask, path, b"first")
        until(lambda: bodies == [b"first"])
        try:
            yield bodies, release
        finally:
            release.set()
            assert first.result(60) == b"FIRST"


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


def test_a_caller_that_sends_no_whole_request_does_not_keep_others_waiting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "socket"
    with answering(path, bytes.upper, send_within_s=0.05):
        with closing(socket.socket(socket.AF_UNIX)) as silent:
            silent.connect(str(path))
            assert ask(path, b"there") == b"THERE"
        with closing(socket.socket(socket.AF_UNIX)) as interrupted:
            interrupted.connect(str(path))
            interrupted.sendall(b"\0\0\0\x09half")
        assert ask(path, b"there") == b"THERE"
    assert caplog.text == ""


def test_a_request_is_skipped_if_its_caller_leaves_before_it_begins(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with one_is_being_answered(path) as (bodies, release):
        assert unix_socket.ask(path, b"impatient", timeout_s=0.05) == b""
        release.set()
        assert ask(path, b"last") == b"LAST"
        assert bodies == [b"first", b"last"]


def test_requests_wait_for_the_preparation_even_if_it_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepared = Event()

    def prepare() -> Iterator[None]:
        prepared.set()
        yield
        raise ValueError("not today")

    with answering(tmp_path / "socket", lambda _: b"%d" % prepared.is_set(), prepare=prepare):
        assert ask(tmp_path / "socket", b"") == b"1"
    assert "not today" in caplog.text


def test_the_end_of_the_block_stops_the_preparation_after_its_step(tmp_path: Path) -> None:
    steps, begun = list[int](), Event()

    def prepare() -> Iterator[None]:
        while True:
            steps.append(len(steps))
            begun.set()
            yield

    with answering(tmp_path / "socket", bytes.upper, prepare=prepare):
        assert begun.wait(60)
    taken = len(steps)
    assert taken and ask(tmp_path / "socket", b"") == b""
    assert len(steps) == taken
