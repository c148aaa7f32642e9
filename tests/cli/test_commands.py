"""Every command prints JSON and has an example in its help, which names values in words; docs/cli.md lists it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

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


GROUPS = sorted({name.rpartition(" ")[0] for name in ALL if name.count(" ") == 2})


@pytest.mark.parametrize("name", [*ALL, *GROUPS])
def test_help_names_values_in_words_and_ends_with_an_example(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMMR_HOME", str(tmp_path))
    shown = CliRunner().invoke(app, [*name.split()[1:], "--help"])
    assert shown.exit_code == 0
    types = r"<\w|\{\w|\b(?:TEXT|INTEGER|FLOAT|BOOLEAN)\b"  # as releases of typer print them
    assert re.findall(types, shown.output) == []
    *_, last = [line.strip() for line in shown.output.splitlines() if line.strip()]
    assert last.startswith(f"Example: {name}")


@pytest.mark.parametrize("name", ALL)
def test_an_option_with_a_value_names_it(name: str) -> None:
    valued = [each for each in ALL[name].params if each.param_type_name == "option" and not each.is_flag]
    assert [each.name for each in valued if not each.metavar] == []
