"""One training per key: the second waits for the first."""

import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from immr.launch.job_lock import job_lock
from tests.support import patience


def test_a_second_training_of_the_same_key_waits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entered = threading.Event()

    def second() -> None:
        with job_lock(tmp_path / "job"):
            entered.set()

    thread = threading.Thread(target=second)
    with caplog.at_level(logging.WARNING), job_lock(tmp_path / "job"):
        thread.start()
        patience.until(lambda: "is already training the same version: waiting for it" in caplog.text)
        assert not entered.is_set()
    thread.join(10)
    assert entered.is_set()
    assert "process " in caplog.text


def test_the_lock_of_a_killed_process_is_released(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom immr.launch.job_lock import job_lock\n"
        "with job_lock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.kill()
    with job_lock(tmp_path):
        pass
