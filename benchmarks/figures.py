"""What benchmarks share: the option `--json`, and the form of the file that it writes."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import click
import typer

from immr import __version__
from immr.storage.atomic import write_atomically

JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here.")]


def write_figures(file: Path | None, figures: Mapping[str, Any]) -> None:
    """Write figures with the options of this run and its machine; no file, nothing to do.

    `{"benchmark": "benchmarks.gate", "options": {"runs": 100}, "machine": {…}, "figures": {…}}`
    """
    if file is None:
        return
    command = click.get_current_context()
    options = {name: value for name, value in command.params.items() if name != "json_file"}
    content = {
        "benchmark": command.command_path.removeprefix("python -m "),
        "options": options,
        "machine": {"cores": os.cpu_count(), "processor": platform.processor(), "load": os.getloadavg()[0]},
        "immr": __version__,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "figures": figures,
    }
    write_atomically(file, json.dumps(content, indent=1, default=str) + "\n")
