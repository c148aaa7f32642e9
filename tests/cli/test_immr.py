"""The command as a user types it: a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

STEPS = ("govern", "train", "evaluate", "package", "index", "materialize", "deploy", "watch")


def immr(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "immr.cli", *arguments],
        env={**os.environ, "IMMR_HOME": str(home), "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("step", STEPS)
def test_every_step_is_a_command_with_help(tmp_path: Path, step: str) -> None:
    done = immr(tmp_path, step, "--help")
    assert done.returncode == 0 and "Usage" in done.stdout


def test_an_error_is_one_sentence_with_the_remedy(tmp_path: Path) -> None:
    done = immr(tmp_path, "train", str(tmp_path / "nothing"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "run `immr govern` first" in done.stderr


def test_data_then_govern_gives_a_training_set(tmp_path: Path) -> None:
    made = immr(tmp_path, "data", "synthetic", "--out", str(tmp_path / "shop"))
    assert made.returncode == 0, made.stderr
    done = immr(tmp_path, "govern", str(tmp_path / "shop"), "--out", str(tmp_path / "set"))
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    assert manifest["hash"][:16] in done.stdout
