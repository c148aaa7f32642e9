"""Ctrl-C: a sentence and an exit code, also if a library turns it into an error of its own. Real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import duckdb
import pytest

from immr.machine.ctrl_c import ends_on_ctrl_c


@pytest.fixture(autouse=True)
def _heeds_ctrl_c() -> Iterator[None]:
    """Otherwise tests that run in the background of a script ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_library_that_raises_its_own_error_is_stopped_like_any_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """DuckDB raises RuntimeError("Query interrupted"), and `immr govern` ended with a traceback and exit code 1.

    With several threads DuckDB 2.0 sometimes hangs when it is interrupted.
    """
    with (
        duckdb.connect(config={"threads": 1}) as base,
        pytest.raises(SystemExit) as stopped,
        ends_on_ctrl_c(),
    ):
        threading.Timer(0.2, interrupt).start()
        base.sql("SELECT sum(a.range * b.range) FROM range(1_000_000) a, range(100_000) b").fetchall()
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "stopped: run the same command again to continue\n"


def test_a_library_that_never_returns_does_not_keep_the_process() -> None:
    hanging = """
import os, signal, time
from immr.machine import ctrl_c
signal.signal(signal.SIGINT, signal.default_int_handler)
ctrl_c._PATIENCE_S = 0.2
with ctrl_c.ends_on_ctrl_c("stopped"):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(60)
"""
    ended = subprocess.run([sys.executable, "-c", hanging], capture_output=True, text=True, timeout=50)
    assert (ended.returncode, ended.stderr) == (130, "stopped\n")


def test_a_server_also_ends_with_sigterm_and_its_own_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped, ends_on_ctrl_c("stopped", exit_code=0, is_server=True):
        os.kill(os.getpid(), signal.SIGTERM)
    assert (stopped.value.code, capsys.readouterr().err) == (0, "stopped\n")


def test_errors_pass_and_the_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="wrong"), ends_on_ctrl_c(is_server=True):
        raise ValueError("wrong")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_job_in_the_background_of_a_script_still_ignores_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with ends_on_ctrl_c():
        interrupt()
    with pytest.raises(SystemExit), ends_on_ctrl_c(is_server=True):
        interrupt()
