"""Training on this machine: torchrun as a subprocess that ends with this process."""

from __future__ import annotations

import contextlib
import itertools
import os
import pty
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator

from immr.errors import TrainingError
from immr.launch.interruption import sigterm_raises
from immr.launch.launcher import TrainingJob
from immr.machine import cores

_KEPT_LINES = 200
_SHOWN_LINES = 20
_GRACE_S = 10.0
_OWN_ERROR = "training error: "
_RESTARTS = 3  # of all processes after one died; they resume from the newest checkpoint
_TORCHRUN = "torch/distributed/elastic/"  # after this, the output only repeats that a process failed


class LocalLauncher:
    """`torchrun` with the job's number of processes, which share this machine's cores.

    If one dies, torchrun restarts all of them. A single process runs without torchrun; if it dies, calling
    `run` again resumes from its checkpoint.
    """

    def run(self, job: TrainingJob) -> None:
        """Block until the job is done; its output goes to our stderr.

        Ctrl-C and SIGTERM stop all of its processes before they end this one.

        Raises:
            TrainingError: A process failed; the message quotes its last lines.
        """
        if not job.job_file.is_file():
            raise TrainingError(f"the job file {job.job_file} does not exist: write it with TrainJob.write")
        lines: deque[str] = deque(maxlen=_KEPT_LINES)
        with (
            sigterm_raises(),
            tempfile.TemporaryDirectory(prefix="immr-torchrun-", ignore_cleanup_errors=True) as logs,
            _running(_command(job, logs), _environment(job.processes), lines) as process,
        ):
            code = process.wait()
        if code:
            raise TrainingError(f"training {job.name} failed (exit code {code}): {_reason(lines)}")

    def stop(self, run: str) -> list[str]:
        """See `Launcher.stop`; here training ends with the process that waits for it."""
        return []


def _command(job: TrainingJob, logs: str) -> list[str]:
    ours = [sys.executable, "-m", "immr.launch.with_parent", str(os.getpid())]
    if job.processes == 1:
        return [*ours, "immr.train", str(job.job_file)]
    return [
        *ours,
        "torch.distributed.run",
        "--standalone",
        "--local-addr=127.0.0.1",
        f"--max-restarts={_RESTARTS}",
        f"--nproc-per-node={job.processes}",
        f"--log-dir={logs}",  # torchrun would make a temporary folder and leave it
        "-m",
        "immr.launch.with_parent",
        "0",  # torchrun's own process id is not known yet
        "immr.train",
        str(job.job_file),
    ]


def _environment(processes: int) -> dict[str, str]:
    threads = max(1, cores.usable() // processes)
    # otherwise gloo resolves this machine's host name, which is slow or wrong without DNS
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    own = {
        "OMP_NUM_THREADS": str(threads),
        # a thread that waits for another spins for so long, then sleeps: by default it spins through its time slice,
        # which the other may need
        "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "10000"),
        "GLOO_SOCKET_IFNAME": loopback,
        "PYTHONUNBUFFERED": "1",
        # a new store for each start: in torchrun's store, restarted processes find addresses of dead ones
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }
    return os.environ | own


@contextlib.contextmanager
def _running(
    command: list[str], environment: dict[str, str], lines: deque[str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process in its own session for the duration of the block, with its output streamed."""
    # with a pseudo-terminal, the processes draw progress bars
    source, sink = pty.openpty() if sys.stderr.isatty() else os.pipe()
    try:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    finally:
        os.close(sink)
    silent = threading.Event()
    reader = threading.Thread(target=_stream, args=(source, lines, silent), daemon=True)
    reader.start()
    try:
        yield process
    finally:
        _end(process, silent)
        reader.join(_GRACE_S)
        os.close(source)


def _end(process: subprocess.Popen[bytes], silent: threading.Event) -> None:
    if process.poll() is not None:
        return
    silent.set()  # torchrun reports that it was stopped with a traceback
    # SIGTERM first: torchrun then stops its workers, which are in other sessions
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _stream(source: int, lines: deque[str], silent: threading.Event) -> None:
    """Copy the output to our stderr until `silent` is set, and keep its last lines."""
    rest = b""
    while part := _read(source):
        if not silent.is_set():
            sys.stderr.write(part.decode(errors="replace"))
            sys.stderr.flush()
        *whole, rest = (rest + part).replace(b"\r", b"\n").split(b"\n")
        _keep(whole, lines)
    _keep([rest], lines)


def _keep(parts: list[bytes], lines: deque[str]) -> None:
    lines.extend(filter(None, (part.decode(errors="replace").rstrip() for part in parts)))


def _read(source: int) -> bytes:
    try:
        return os.read(source, 65536)
    except OSError:  # how a terminal reports that the other side is closed
        return b""


def _reason(lines: deque[str]) -> str:
    own = [line.removeprefix(_OWN_ERROR) for line in lines if line.startswith(_OWN_ERROR)]
    if own:
        return own[0]
    kept = itertools.dropwhile(lambda line: _TORCHRUN in line, lines)  # of a restart
    before = list(itertools.takewhile(lambda line: _TORCHRUN not in line, kept)) or list(lines)
    return "its last lines were\n" + "\n".join(before[-_SHOWN_LINES:])
