"""Every command prints JSON and has an example in its help; docs/cli.md lists it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from immr.cli import app

DOCS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")


def commands(group: Any, name: str = "immr") -> Iterator[tuple[str, Any]]:
    for word, command in group.commands.items():
        inner = getattr(command, "commands", None)
        yield from commands(command, f"{name} {word}") if inner else [(f"{name} {word}", command)]


ALL = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", ALL)
def test_a_command_prints_json_has_an_example_and_is_documented(name: str) -> None:
    command = ALL[name]
    assert "--json" in {option for parameter in command.params for option in parameter.opts}
    text = f"{command.help or ''} {command.epilog or ''}"
    assert "Example: " in text and name in text.partition("Example: ")[2]
    assert f"`{name}" in DOCS
