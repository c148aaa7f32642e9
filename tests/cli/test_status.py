"""`immr doctor`, and `status` and `models` before anything is trained; tests/loop/test_status.py has the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from immr.cli import app
from immr.doctor import local
from immr.doctor.finding import Finding


def test_an_empty_home_has_a_status_and_no_models(tmp_path: Path) -> None:
    run = CliRunner(env={"IMMR_HOME": str(tmp_path), "COLUMNS": "200"}).invoke
    done = run(app, ["status"])
    assert done.exit_code == 0
    for sentence in ("no version has a role", "nothing is deployed", "no pipeline has run yet"):
        assert sentence in done.stdout
    assert json.loads(run(app, ["status", "--json"]).stdout)["serving"] == []
    assert "run `immr train` first" in run(app, ["models"]).stdout
    assert json.loads(run(app, ["models", "--json"]).stdout) == []


def test_a_path_is_printed_as_it_is(tmp_path: Path) -> None:
    """Rich would print :b: as a picture, and take [bold] for a style."""
    home = tmp_path / "a:b:c [bold]"
    done = CliRunner(env={"IMMR_HOME": str(home), "COLUMNS": "200"}).invoke(app, ["status"])
    assert f"home {home}: no version has a role" in done.stdout


def test_a_remedy_with_an_extra_is_printed_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich would take the extra for a style."""
    finding = Finding("governance", False, "pyspark is not installed", "pip install 'immr[spark]'")
    monkeypatch.setattr(local, "examine", lambda parts: [finding])
    done = CliRunner(env={"IMMR_HOME": str(tmp_path), "COLUMNS": "200"}).invoke(app, ["doctor"])
    assert done.exit_code == 3
    assert finding.remedy in done.stdout
