"""Messages of libraries go to a file, and only IMMR's own are printed."""

import logging
import subprocess
import sys
import warnings
from datetime import UTC, datetime
from pathlib import Path

import pytest

from immr.machine.library_log import libraries_log_to


def test_libraries_and_warnings_go_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "libraries.log"
    with libraries_log_to(file):
        assert not file.parent.exists()  # the first message creates it
        logging.getLogger("onnxscript").warning("Skipping constant folding")
        logging.getLogger("immr.loop").warning("ours")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
    text = file.read_text()
    assert "onnxscript: Skipping constant folding" in text and "deprecated" in text
    assert "ours" not in text
    assert datetime.fromisoformat(text.split()[0]).tzinfo is UTC, "a time has its zone"


def test_a_file_that_cannot_be_written_stops_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with libraries_log_to(tmp_path / "file" / "libraries.log"):
        logging.getLogger("feast").warning("lost")
    assert "Traceback" not in capfd.readouterr().err


def test_only_our_messages_are_printed(tmp_path: Path) -> None:
    script = (
        "import logging; from immr.machine.library_log import show_own_messages; show_own_messages()\n"
        "logging.getLogger('immr.loop').info('ours'); logging.getLogger('feast').error('theirs')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stderr == "ours\n"


def test_what_libraries_print_while_the_interpreter_ends_is_dropped() -> None:
    """DuckDB's bindings report leaks there, after all Python code."""
    code = (
        "import atexit, os; from immr.machine.library_log import silence_the_end\n"
        "atexit.register(os.write, 2, b'leaked 27 instances')\n"
        "atexit.register(silence_the_end)\n"
        "print('result'); raise SystemExit('a reason')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("result\n", "a reason\n", 1)
