"""The commands `python -m …` on the pages have options that their modules accept."""

from __future__ import annotations

import importlib
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
COMMAND = re.compile(r"python -m ((?:benchmarks|pipelines|dashboards|demo)[a-z_.]*[^`\n#(]*)")
MISSING = {"MissingParameter", "NoArgsIsHelpError", "Exit"}  # a page may name a command without its arguments


@cache
def command_of(module: str) -> Any:
    """The module's typer command; None for one with another parser."""
    is_folder = (ROOT / module.replace(".", "/")).is_dir()
    loaded = importlib.import_module(f"{module}.__main__" if is_folder else module)
    if (app := getattr(loaded, "app", None)) is None:
        name = re.search(r"(?:typer\.run|run_module)\((\w+)\)", Path(str(loaded.__file__)).read_text())
        if name is None:
            return None
        app = typer.Typer()
        app.command()(getattr(loaded, name[1]))
    return typer.main.get_command(app)


def problem(line: str) -> str:
    """Why a command line is refused; empty if it is not."""
    module, *words = shlex.split(line)
    if (command := command_of(module.rstrip("."))) is None:
        return ""
    if words and words[0] in (inner := getattr(command, "commands", {})):
        command, words = inner[words[0]], words[1:]
    try:
        command.make_context(module, list(words))
    except Exception as error:
        return "" if type(error).__name__ in MISSING else f"{line}: {getattr(error, 'message', error)}"
    return ""


@pytest.mark.slow  # imports every benchmark
def test_pages_name_only_options_that_exist() -> None:
    """`benchmarks.index --points 100000 1000000` was printed, which takes one number for each `--points`."""
    pages = {page: page.read_text(encoding="utf-8").replace("\\\n", "") for page in PAGES}
    lines = {(page.name, line.strip()) for page, text in pages.items() for line in COMMAND.findall(text)}
    assert len(lines) > 60
    complete = [(page, line) for page, line in sorted(lines) if not re.search(r"[…\[\]|]|[\"']$", line)]
    assert [(page, found) for page, line in complete if (found := problem(line))] == []
