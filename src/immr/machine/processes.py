"""Child Python processes with their output in a file: run to completion, or kept running during a block."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.request import ProxyHandler, build_opener

from immr.errors import DeployError
from immr.machine.backoff import Restarts

STOP_TIMEOUT_S = 10.0
_SHOWN_LINES = 20
_LOG = logging.getLogger(__name__)
_WRONG_SETTING = re.compile(r"^(?:immr\.errors\.)?SettingsError: (.+)$", re.MULTILINE)


def run(
    command: Sequence[str], environment: Mapping[str, str], log_file: Path, tell: Callable[[str], None]
) -> None:
    """Run `python <command>` to completion; its lines go to a file and to `tell`.

    Raises:
        DeployError: The process failed; the message contains its last lines.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    tail: list[str] = []
    with log_file.open("a") as log:
        process = _start(command, environment, subprocess.PIPE)
        assert process.stdout is not None
        try:
            for raw in process.stdout:
                line = raw.decode(errors="replace")
                log.write(line)
                log.flush()
                tail = [*tail[-29:], line]
                tell(line)
        finally:
            stop(process)
            process.stdout.close()
    if process.returncode:
        last = "".join(tail).strip()
        raise DeployError(
            f"`python {' '.join(command)}` failed; its output is in {log_file} and ends with:\n{last}"
        )


class Server:
    """`python <command>`, started at once. Its output is appended to a file."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], log_file: Path, folder: Path | None
    ) -> None:
        """`folder` is the working folder; None: this process's own."""
        self.called = f"`python {' '.join(command)}`"
        self._command, self._environment, self._folder = command, environment, folder
        self._log_file = log_file
        self._restarts = Restarts()
        log_file.parent.mkdir(parents=True, exist_ok=True)
        self.process = self._started()

    def restart_if_exited(self) -> None:
        """Start an exited process again, after a pause that doubles with each exit; call it every few seconds."""
        if (code := self.process.poll()) is None:
            return
        if (wait_s := self._restarts.exited()) is not None:
            stop(self.process)  # what it has started may have outlived it
            _LOG.warning(
                "%s exited with code %s: it is started again in %g s, and its output is in %s",
                self.called,
                code,
                wait_s,
                self._log_file,
            )
        elif self._restarts.is_due():
            self.process = self._started()
            self._restarts.started()

    def _started(self) -> subprocess.Popen[bytes]:
        with self._log_file.open("ab") as log:
            return _start(self._command, self._environment, log, self._folder)


@contextmanager
def serving(
    command: Sequence[str],
    environment: Mapping[str, str],
    log_file: Path,
    ready_url: str,
    timeout_s: float = 60,
    folder: Path | None = None,
) -> Iterator[Server]:
    """Run `python <command>` during the block, which starts once `ready_url` answers 200.

    Raises:
        DeployError: The process exited or was not ready in time; the message contains its last lines.
    """
    begin = log_file.stat().st_size if log_file.exists() else 0
    server = Server(command, environment, log_file, folder)
    try:
        if failure := _failure(server.process, ready_url, time.monotonic() + timeout_s):
            output = log_file.read_bytes()[begin:].decode(errors="replace")
            if wrong := wrong_setting(output):
                raise DeployError(f"{server.called} cannot start: {wrong}")
            last = "\n".join(output.splitlines()[-_SHOWN_LINES:])
            raise DeployError(f"{server.called} {failure}. {log_file} ends with:\n{last}")
        yield server
    finally:
        stop(server.process)


def wrong_setting(output: str) -> str:
    """The sentence about the setting that kept a process from starting; empty if its output has none."""
    found = _WRONG_SETTING.findall(output)
    return str(found[-1]) if found else ""


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a process and everything it started: SIGTERM, then SIGKILL after `STOP_TIMEOUT_S`."""
    for sign, patience_s in ((signal.SIGTERM, STOP_TIMEOUT_S), (signal.SIGKILL, STOP_TIMEOUT_S)):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _start(
    command: Sequence[str],
    environment: Mapping[str, str],
    output: IO[bytes] | int,
    folder: Path | None = None,
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=output,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def _failure(process: subprocess.Popen[bytes], url: str, deadline: float) -> str:
    """What kept a process from answering at its URL; empty once it answers."""
    opener = build_opener(ProxyHandler({}))  # no proxy between processes of one machine
    while process.poll() is None and time.monotonic() < deadline:
        # HTTPError and URLError are OSErrors
        with suppress(OSError, HTTPException), opener.open(url, timeout=2):
            return ""
        time.sleep(0.2)
    if process.returncode is not None:
        return f"ended with exit code {process.returncode} before it was ready at {url}"
    return f"was not ready at {url} in time"
