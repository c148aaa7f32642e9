"""Pipelines on this machine: `kfp.local` runs each step as a process."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TextIO

import psutil  # type: ignore[import-untyped]

from immr.errors import ImmrError
from immr.loop.pipeline_run import PipelineRun
from immr.storage.file_ages import oldest_first
from pipelines.step_lines import StepLines

_KEPT_RUNS = 5


@contextmanager
def on_this_machine(home: Path, name: str) -> Iterator[None]:
    """Run a pipeline called in the block on this machine, and print a line per step, after its name and process id.

    `pipeline` and `logs` below the home keep the artifacts and all output of the newest runs. SIGTERM stops the step,
    as Ctrl-C does.

    Raises:
        ImmrError: A step failed.
    """
    root, logs = home / "pipeline", home / "logs"
    use_this_machine(root)
    logs.mkdir(parents=True, exist_ok=True)
    file = logs / f"pipeline-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}.log"
    called = f"{name}[{os.getpid()}]"
    print(f"{called} all output: {file}", flush=True)
    with _without_old_runs(root, logs), file.open("w", encoding="utf-8") as log, _warnings_to(log):
        lines = StepLines(sys.stdout, log, lambda run, step: _recorded(home, run, step), called)
        try:
            with redirect_stdout(lines), _steps_end_on_sigterm():
                yield
        except RuntimeError as error:  # kfp.local's
            lines.end_step("failed")
            raise ImmrError(f"a step of the pipeline failed; all output is in {file}") from error


@contextmanager
def _without_old_runs(root: Path, logs: Path) -> Iterator[None]:
    """Delete old runs after the block, unless another pipeline is running, which may be the oldest."""
    with (root / ".running").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        try:
            yield
        finally:
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # other logs may begin with "pipeline-", too
                for log in oldest_first(logs.glob("pipeline-[0-9]*.log"))[:-_KEPT_RUNS]:
                    log.unlink(missing_ok=True)
                for folder in oldest_first(path for path in root.iterdir() if path.is_dir())[:-_KEPT_RUNS]:
                    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _steps_end_on_sigterm() -> Iterator[None]:
    """`kfp.local` leaves a step running, which would disturb the next run."""

    def stop(number: int, frame: FrameType | None) -> None:
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                process.terminate()
        interrupt = signal.getsignal(signal.SIGINT)
        if callable(interrupt):
            interrupt(number, frame)
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _recorded(home: Path, run: str, step: str) -> str:
    """What a step of this run found, or why it failed and what to do about it."""
    records = PipelineRun(home / "runs" / run).records() if run else []
    return next(
        (
            "\n".join(filter(None, [each.error or each.finding, each.remedy]))
            for each in records
            if each.step == step
        ),
        "",
    )


@contextmanager
def _warnings_to(log: TextIO) -> Iterator[None]:
    """KFP warns about every setting that only a cluster knows."""

    def write(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        log.write(f"{filename}:{lineno}: {category.__name__}: {message}\n")

    with warnings.catch_warnings():
        warnings.showwarning = write
        yield


def use_this_machine(root: Path) -> None:
    """Let `kfp.local` run pipelines as subprocesses; call it before importing one."""
    from kfp import local

    os.environ.setdefault("IMMR_PIPELINE_RETRIES", "0")
    # kfp.local starts "python3", and the steps start torchrun and bentoml
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    root.mkdir(parents=True, exist_ok=True)
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(root))
