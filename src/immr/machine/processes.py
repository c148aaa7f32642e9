"""Child Python processes with their output in a file: run to completion, or kept running during a block."""

from __future__ import annotations

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

STOP_TIMEOUT_S = 10.0
_SHOWN_LINES = 20
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


@contextmanager
def serving(
    command: Sequence[str],
    environment: Mapping[str, str],
    log_file: Path,
    ready_url: str,
    timeout_s: float = 60,
    folder: Path | None = None,
) -> Iterator[None]:
    """Run `python <command>` during the block, which starts once `ready_url` answers 200.

    Raises:
        DeployError: The process exited or was not ready in time; the message contains its last lines.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as log:
        begin = log.tell()
        process = _start(command, environment, log, folder)
    try:
        if failure := _failure(process, ready_url, time.monotonic() + timeout_s):
            output = log_file.read_bytes()[begin:].decode(errors="replace")
            called = f"`python {' '.join(command)}`"
            if wrong := wrong_setting(output):
                raise DeployError(f"{called} cannot start: {wrong}")
            last = "\n".join(output.splitlines()[-_SHOWN_LINES:])
            raise DeployError(f"{called} {failure}. {log_file} ends with:\n{last}")
        yield
    finally:
        stop(process)


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
