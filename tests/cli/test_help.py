"""Modules that run without `immr` have the same help and the same messages as its commands."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from dashboards.__main__ import page
from dashboards.boards import boards
from dashboards.rules import rules
from immr.cli.help import Commands, run_module
from immr.errors import SettingsError
from serving.gateway.__main__ import gateway


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[Any, str]]:
    """Runs a module's command with options: its exit code, and what it printed."""
    monkeypatch.setenv("IMMR_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")

    def call(command: Callable[..., None], *options: str) -> tuple[Any, str]:
        monkeypatch.setattr(sys, "argv", ["module", *options])
        with pytest.raises(SystemExit) as ended:
            run_module(command)
        printed = capsys.readouterr()
        return ended.value.code, printed.out + printed.err

    return call


@pytest.mark.parametrize("command", [gateway, page, boards, rules])
def test_help_names_values_in_words_and_ends_with_an_example(
    run: Callable[..., tuple[Any, str]], command: Callable[..., None]
) -> None:
    code, shown = run(command, "--help")
    assert code == 0
    assert re.findall(r"<\w|\{\w|[<>]=|\b(?:TEXT|INTEGER|FLOAT|BOOLEAN)\b", shown) == []
    assert [line for line in shown.splitlines() if line.strip()][-1].strip().startswith("Example: python -m ")


@pytest.mark.parametrize("port", ["65536", "0", "-1", "http"])
@pytest.mark.parametrize("command", [gateway, page])
def test_a_port_out_of_range_is_wrong_usage(
    run: Callable[..., tuple[Any, str]], command: Callable[..., None], port: str
) -> None:
    code, shown = run(command, f"--port={port}")
    assert code == 2 and "Invalid value for '--port'" in shown


def test_an_error_is_one_sentence(run: Callable[..., tuple[Any, str]]) -> None:
    def fails() -> None:
        raise SettingsError("IMMR_HOME is empty: set it")

    assert run(fails) == ("SettingsError: IMMR_HOME is empty: set it", "")


@pytest.mark.parametrize(
    "given",
    [
        ["items.csv", "--share", "0.2"],
        ["--items", "items.csv", "--weight", "0.2"],
        ["--items=items.csv", "--weight=0.2"],
        ["items.csv", "--share", "0.2", "--workers", "2", "--gpus-per-worker=2"],
    ],
)
def test_options_have_their_earlier_names_too(given: list[str]) -> None:
    """`immr start --items FILE` and `immr experiment start --weight 0.5` stood in earlier docs."""
    found: list[tuple[str, float]] = []
    app = Commands(add_completion=False)

    @app.command()
    def search(items: str, share: float = 1.0, processes: int = 0, gpus_per_process: int = 0) -> None:
        assert processes == gpus_per_process
        found.append((items, share))

    assert CliRunner().invoke(app, given).exit_code == 0
    assert found == [("items.csv", 0.2)]


def test_an_option_of_the_command_itself_is_not_an_earlier_name() -> None:
    """`immr events export --items FILE` has an option of that name."""
    found: list[str] = []
    app = Commands(add_completion=False)

    @app.command()
    def export(items: str = typer.Option("")) -> None:
        found.append(items)

    assert CliRunner().invoke(app, ["--items", "items.csv"]).exit_code == 0
    assert found == ["items.csv"]
