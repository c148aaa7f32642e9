"""Child Python processes with their output in a file: run to completion, or kept running during a block."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from urllib.request import ProxyHandler, build_opener

from immr.errors import DeployError

STOP_TIMEOUT_S = 10.0


def run(
    command: Sequence[str], environment: Mapping[str, str], log_file: Path, tell: Callable[[str], None]
) -> None:
    """Run `python <command>` to completion; its lines go to a file and to `tell`.

    Raises:
        DeployError: it failed; the message contains its last lines.
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
        DeployError: it exited or was not ready in time; the message contains its last lines.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as log:
        process = _start(command, environment, log, folder)
    try:
        _wait_until_ready(process, command, log_file, ready_url, time.monotonic() + timeout_s)
        yield
    finally:
        stop(process)


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


def _wait_until_ready(
    process: subprocess.Popen[bytes], command: Sequence[str], log_file: Path, url: str, deadline: float
) -> None:
    opener = build_opener(ProxyHandler({}))  # no proxy between processes of one machine
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), opener.open(url, timeout=2):  # HTTPError and URLError are OSErrors
            return
        time.sleep(0.2)
    last = "\n".join(log_file.read_text(errors="replace").splitlines()[-20:])
    raise DeployError(
        f"`python {' '.join(command)}` was not ready at {url} in time. {log_file} ends with:\n{last}"
    )
