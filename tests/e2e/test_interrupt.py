"""Ctrl-C during the demo leaves no process behind, and nothing that breaks the next run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.patience import until

ROOT = Path(__file__).parents[2]


def started_with(home: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("IMMR_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ctrl_c_during_a_pipeline_run_stops_everything(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with subprocess.Popen(
        [sys.executable, "-m", "demo", "--once", "--dataset", "synthetic"],
        cwd=ROOT,
        env={**os.environ, "IMMR_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "· train" in line:
                break
        until(lambda: len(started_with(home)) > 2, timeout_s=120)  # torchrun and its workers
        demo.send_signal(signal.SIGINT)
        output = demo.stdout.read()
        assert demo.wait(120) == 130 and "the next run resumes here" in output
    # on a busy machine a worker may take a moment to end
    until(lambda: not started_with(home), timeout_s=60, context=lambda: started_with(home))
    assert list((home / "work" / "training-sets").iterdir())  # finished work is kept
