import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from immr.deploy import process_marks

SLEEPER = "import time; print(1, flush=True); time.sleep(600)"
STUBBORN = "import signal; signal.signal(15, signal.SIG_IGN); " + SLEEPER


def started(code: str, its_mark: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        env={**os.environ, process_marks.MARK: its_mark},
        start_new_session=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


@pytest.mark.parametrize(("code", "how"), [(SLEEPER, signal.SIGTERM), (STUBBORN, signal.SIGKILL)])
def test_processes_with_the_mark_are_stopped(tmp_path: Path, code: str, how: int) -> None:
    mark = process_marks.mark(tmp_path, "champion")
    with started(code, mark) as process, started(SLEEPER, process_marks.mark(tmp_path, "other")) as other:
        process_marks.stop(mark, timeout_s=0.3 if code == STUBBORN else 30)
        assert process.wait(30) == -how
        assert other.poll() is None
        other.kill()


def test_orphans_are_those_whose_starter_is_gone(tmp_path: Path) -> None:
    alive = process_marks.mark(tmp_path, "champion")
    gone = f"{tmp_path.absolute()}|{2**22 + 1}|{time.time():.2f}|challenger"
    with started(SLEEPER, alive) as kept, started(SLEEPER, gone) as orphan:
        assert process_marks.stop_orphans(tmp_path, timeout_s=30) == 1
        assert orphan.wait(30) == -signal.SIGTERM
        assert kept.poll() is None
        kept.kill()


def test_a_starter_with_a_recycled_pid_is_another_process(tmp_path: Path) -> None:
    recycled = f"{tmp_path.absolute()}|{os.getpid()}|{psutil.Process().create_time() - 100:.2f}|champion"
    with started(SLEEPER, recycled) as orphan:
        assert process_marks.stop_orphans(tmp_path, timeout_s=30) == 1
        assert orphan.wait(30) == -signal.SIGTERM
