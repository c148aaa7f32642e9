"""Ctrl-C ends a command with 130 and without a traceback, whenever it comes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_DURING_IMPORTS = """
import sys
class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "immr.cli.recipe":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
from immr.cli import main
sys.argv = ["immr", "recipe", "list"]
main()
"""
_IN_A_STEP = """
import sys
from unittest import mock
from immr.cli import main
sys.argv = ["immr", "recipe", "list"]
with mock.patch("immr.cli.recipe.print_json", side_effect=KeyboardInterrupt):
    sys.argv.append("--json")
    main()
"""


@pytest.mark.parametrize("script", [_DURING_IMPORTS, _IN_A_STEP])
def test_ctrl_c_ends_without_a_traceback(tmp_path: Path, script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"IMMR_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (130, "")
