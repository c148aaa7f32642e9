"""`immr experiment history` and `report` before the first test; tests/loop/experiment has the rest."""

from __future__ import annotations

import json
from pathlib import Path

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
