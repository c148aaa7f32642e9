"""Pipelines on this machine: `kfp.local` runs each step as a process."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from immr.errors import ImmrError

_KEPT_RUNS = 5


@contextmanager
def on_this_machine(root: Path) -> Iterator[None]:
    """Run pipelines called in the block on this machine; `root` keeps the artifacts of the newest runs.

    Raises:
        ImmrError: A step failed.
    """
    use_this_machine(root)
    try:
        yield
    except RuntimeError as error:  # kfp.local's; the step has printed its own error
        raise ImmrError(f"a step of the pipeline failed ({error}): see its error above") from error
    folders = sorted(
        (path for path in root.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime
    )
    for old in folders[:-_KEPT_RUNS]:
        shutil.rmtree(old, ignore_errors=True)


def use_this_machine(root: Path) -> None:
    """Let `kfp.local` run pipelines as subprocesses; call it before importing one."""
    from kfp import local

    os.environ.setdefault("IMMR_PIPELINE_RETRIES", "0")
    # kfp.local starts "python3", and the steps start torchrun and bentoml
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    root.mkdir(parents=True, exist_ok=True)
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(root))
