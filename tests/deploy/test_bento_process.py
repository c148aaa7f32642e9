"""What a start that takes long reports. Started and stopped processes: test_local.py."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from immr.deploy import bento_process
from immr.deploy.bento_process import BentoProcess
from immr.deploy.deployer import Deployment
from immr.errors import DeployError


def test_a_long_start_is_reported_while_it_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bento_process, "_REPORT_EVERY_S", 0.1)
    caplog.set_level(logging.INFO)
    (tmp_path / "log").touch()
    deployment = Deployment("champion", "immr-1", "immr-search:immr-1", "http://127.0.0.1:9")
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as popen:
        process = BentoProcess(deployment, popen, tmp_path / "log", "")
        with pytest.raises(DeployError, match="was not ready in time"):
            process.wait_until_ready(time.monotonic() + 1)
        popen.kill()
    assert "immr-1 is not ready after" in caplog.text and "no answer" in caplog.text


def test_a_process_that_does_not_show_its_mark_yet_is_stopped_too(tmp_path: Path) -> None:
    """Its environment reads as empty in its first moment, and `stop` waited for it without end."""
    deployment = Deployment("champion", "immr-1", "immr-search:immr-1", "http://127.0.0.1:9")
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as popen:
        BentoProcess(deployment, popen, tmp_path / "log", "a mark that it lacks").stop()
    assert popen.returncode == -signal.SIGKILL
