"""What benchmarks share: the option `--json`, and the form of the file that it writes."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from immr import __version__
from immr.storage.atomic import write_atomically

JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here.")]


def write_figures(file: Path | None, figures: Mapping[str, Any]) -> None:
    """Write figures, and under `run` the command and the machine that they are from; without a file, do nothing.

    `{"run": {"command": "python -m benchmarks.drift --runs 60", "machine": {…}, "ended": "…"}, "recall": 0.9, …}`
    """
    if file is None:
        return
    run = {
        "command": _command(),
        "immr": __version__,
        "machine": {"cores": os.cpu_count(), "processor": platform.processor(), "load": os.getloadavg()[0]},
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_atomically(file, json.dumps({"run": run, **figures}, indent=1) + "\n")


def _command() -> str:
    """The command of this process, as one would type it."""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    name = ["-m", module.name.removesuffix(".__main__")] if module else [sys.argv[0]]
    return shlex.join(["python", *name, *sys.argv[1:]])
