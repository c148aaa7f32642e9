"""The verbs' commands: what they take from the version where nothing is named."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from immr.cli import app
from immr.loop import package, serve, start
from immr.recipes import Recipe
from immr.settings import Settings
from immr.types import ModelVersion
from immr.wiring import Parts, connect
from tests.support.two_versions import version_of


def test_package_uses_the_recipe_of_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It once packaged every version with the ranking of `concept`."""
    used: list[str] = []

    def build(parts: Parts, version: ModelVersion, recipe: Recipe) -> package.Packaged:
        used.append(recipe.name)
        return package.Packaged(f"immr-search:{version.id}", True, True, True, False, "")

    monkeypatch.setattr(package, "package", build)
    registry = connect(Settings(home=tmp_path)).registry
    version = version_of(registry, tmp_path / "trained", "key", recipe="image_only")
    run = CliRunner(env={"IMMR_HOME": str(tmp_path)}).invoke
    done = run(app, ["package", "--model", version.id, "--json"])
    assert json.loads(done.stdout)["bento"] == "immr-search:immr-1"
    done = run(app, ["package", "--model", version.id, "--recipe", "smoke"])
    assert done.stdout == (
        "immr-search:immr-1 is reused, because nothing has changed. It has no rule that marks exact matches\n"
    )
    assert used == ["image_only", "smoke"]


def test_evaluate_names_the_missing_training_set(tmp_path: Path) -> None:
    registry = connect(Settings(home=tmp_path)).registry
    version_of(registry, tmp_path / "trained", "key")
    done = CliRunner(env={"IMMR_HOME": str(tmp_path)}).invoke(app, ["evaluate", "--model", "immr-1"])
    assert "run `immr govern` on its data again" in str(done.exception)


def test_start_prints_nothing_but_json_to_stdout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it serves, lines for people go to stderr."""
    started = start.Started("immr-1", tmp_path, 2, 2, 0, 0, 0, "immr-search:immr-1", "immr-1")

    def interrupted(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(start, "start", lambda *_: started)
    monkeypatch.setattr(serve, "serve", interrupted)
    (tmp_path / "items.csv").touch()
    (tmp_path / "manifest.json").write_text("{}")  # of the training set
    run = CliRunner(env={"IMMR_HOME": str(tmp_path)}).invoke
    done = run(app, ["start", str(tmp_path / "items.csv"), "--json"])
    assert json.loads(done.stdout)["version_id"] == "immr-1"
    assert "stopped" in done.stderr


def test_evaluate_names_the_kinds_of_query(tmp_path: Path) -> None:
    done = CliRunner(env={"IMMR_HOME": str(tmp_path)}).invoke(app, ["evaluate", "--queries", "photo,sound"])
    assert done.exit_code == 2
    assert "'sound'" in done.output and "photo+text" in done.output
