"""Workers of pytest-xdist that are forks of one process, which has imported the libraries once for all of them."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import subprocess
import sys
import time
import types
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from execnet import gateway_io
from execnet.gateway_base import Popen2IO

from immr.features.repository import import_feast
from immr.registry import store

# those that take longest, without threads: OpenVINO is missing, because its telemetry starts one
LIBRARIES = (
    "torch._dynamo",
    "onnxscript",
    "mlflow.store.tracking.sqlalchemy_store",
    "scipy.stats",
    "sklearn.metrics",
    "pandera.pandas",
    "ibis.backends.duckdb",
    "qdrant_client",
    "aiohttp.web",
    "kubernetes",
    "kserve",
    "kfp",
    "tea_tasting",
    "transformers",
)
POLL_S = 0.05


def import_libraries() -> None:
    """Import without garbage collection, and exempt the objects from later ones, which would unshare their pages."""
    gc.disable()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store._silence_mlflow()
        for name in LIBRARIES:
            importlib.import_module(name)
        import_feast()
    gc.freeze()
    gc.enable()


def fork(count: int) -> None:
    """Fork this process for each of the next `count` workers that xdist starts.

    A worker that replaces a dead one is started as usual, because by then this process has threads.
    """
    forks: list[Popen2IO] = []
    for _ in range(count):
        forks.append(_forked([fork.outfile.fileno() for fork in forks]))
    start = gateway_io.create_io

    def create_io(spec: Any, execmodel: Any) -> Any:
        if not forks:
            return start(spec, execmodel)
        fork = forks.pop(0)
        fork.execmodel = execmodel
        return fork

    gateway_io.create_io = create_io


class _Process:
    """What xdist and execnet use of a `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, or minus the signal that ended it.

        Raises:
            subprocess.TimeoutExpired: It still runs.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while self._status is None:
            pid, status = os.waitpid(self.pid, 0 if end is None else os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
            elif end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("a worker", timeout or 0)
            else:
                time.sleep(POLL_S)
        return self._status

    def kill(self) -> None:
        """End it at once."""
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)


def _forked(ends_of_others: Sequence[int]) -> Popen2IO:
    """The pipes to and from a fork of this process."""
    their_input, our_output = os.pipe()
    our_input, their_output = os.pipe()
    pid = os.fork()
    if pid == 0:
        for end in (*ends_of_others, our_output, our_input):
            os.close(end)
        _work(their_input, their_output)
    os.close(their_input)
    os.close(their_output)
    fork = Popen2IO(os.fdopen(our_output, "wb"), os.fdopen(our_input, "rb"), None)
    fork.popen = _Process(pid)
    fork.wait, fork.kill = fork.popen.wait, fork.popen.kill
    return fork


def _work(input_: int, output: int) -> NoReturn:
    """Do what `python -c` does with the line that execnet gives it, which reads a program and runs it."""
    status = 1
    try:
        os.dup2(input_, 0)
        os.dup2(output, 1)
        os.close(input_)
        os.close(output)
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), sys.__stderr__
        sys.argv = ["-c"]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(gateway_io.popen_bootstrapline, vars(main))
        status = 0
    finally:
        os._exit(status)
