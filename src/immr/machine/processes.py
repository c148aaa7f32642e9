"""Python processes beside this one, their output in files: run to their end, or kept while a block runs."""

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
    """Run `python <command>` to its end; its lines go to a file and to `tell`.

    Raises:
        DeployError: it failed; the message carries its last lines.
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
            f"`python {' '.join(command)}` failed; all of it is in {log_file}. Its end:\n{last}"
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
    """Keep `python <command>` running in a folder while the block runs, entered once `ready_url` answers 200.

    Raises:
        DeployError: it ended, or was not ready in time; the message carries its last lines.
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
    """End a process and all that it started."""
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
    opener = build_opener(ProxyHandler({}))  # a proxy has no business between processes of one machine
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), opener.open(url, timeout=2):  # an HTTPError is an OSError, a URLError too
            return
        time.sleep(0.2)
    last = "\n".join(log_file.read_text(errors="replace").splitlines()[-20:])
    raise DeployError(
        f"`python {' '.join(command)}` did not get ready at {url}. The end of {log_file}:\n{last}"
    )
