"""`immr experiment` before the first test, and wrong options; tests/loop/experiment has the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from immr.cli import app
from immr.errors import ImmrError


def test_without_a_test_there_is_no_history_and_no_report(tmp_path: Path) -> None:
    run = CliRunner(env={"IMMR_HOME": str(tmp_path / "home")}).invoke
    assert "there has been no test yet" in run(app, ["experiment", "history"]).stdout
    assert json.loads(run(app, ["experiment", "history", "--json"]).stdout) == []
    out = tmp_path / "test.html"
    done = run(app, ["experiment", "report", "--out", str(out)])
    assert isinstance(done.exception, ImmrError)
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "option", "message"),
    [
        (["start", "--holdout", "200%"], "--holdout", "200% is not a share of at least 0% and below 100%"),
        (["start", "--ramp", "a"], "--ramp", "is not a share such as"),
        (["start", "--ramp", "1%,5%", "--every", "6"], "--every", "is not a length of time"),
        (["plan", "--power", "0.3"], "--power", "0.3 is not a probability between 50% and 99%"),
        (["plan", "--lift", "five"], "--lift", "is not a share such as"),
    ],
)
def test_a_wrong_value_is_named_with_its_option(
    tmp_path: Path, words: list[str], option: str, message: str
) -> None:
    """The option is in the message, whether it was read by itself or in a list."""
    done = CliRunner(env={"IMMR_HOME": str(tmp_path), "COLUMNS": "200"}).invoke(app, ["experiment", *words])
    assert done.exit_code == 2
    assert f"Invalid value for {option}: " in done.output.replace("'", "") and message in done.output
