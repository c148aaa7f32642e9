"""Ctrl-C ends a command with 130 and a sentence instead of a traceback, whenever it comes. Real signals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_SENTENCE = "stopped: run the same command again to continue\n"
_HEEDED = """
import os, signal, sys
from unittest import mock
from immr.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # otherwise ignored in the background
def interrupt(*args):
    os.kill(os.getpid(), signal.SIGINT)
"""
_DURING_IMPORTS = """
class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            interrupt()
sys.meta_path.insert(0, Interrupted())
sys.argv = ["immr", "recipe", "list"]
main()
"""
_IN_A_STEP = """
from immr.errors import EventLogError
def interrupt_and_fail(*args):
    try:
        interrupt()
    except KeyboardInterrupt as error:
        raise EventLogError("a library's error") from error
sys.argv = ["immr", "recipe", "list", "--json"]
with mock.patch("immr.cli.recipe.print_json", side_effect={effect}):
    main()
"""


@pytest.mark.parametrize(
    "script",
    [
        _DURING_IMPORTS.format(module="immr.cli.application"),
        _DURING_IMPORTS.format(module="immr.cli.recipe"),
        _IN_A_STEP.format(effect="interrupt"),
        _IN_A_STEP.format(effect="interrupt_and_fail"),
    ],
)
def test_ctrl_c_ends_without_a_traceback(tmp_path: Path, script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _HEEDED + script],
        env={"IMMR_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (130, _SENTENCE)
