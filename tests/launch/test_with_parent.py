"""A module that ends when the process that started it is killed."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.support import patience

PARENT = """
import os, subprocess, sys, time
command = [sys.executable, "-m", "immr.launch.with_parent", str(os.getpid()), "http.server", "0"]
print(subprocess.Popen(command, start_new_session=True, stdout=-1).stdout.readline().decode(), flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sends a signal when the parent ends")
def test_it_ends_when_its_parent_is_killed():
    with subprocess.Popen([sys.executable, "-uc", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert b"Serving HTTP" in parent.stdout.readline()
        (child,) = psutil.Process(parent.pid).children()
        os.kill(parent.pid, signal.SIGKILL)
    patience.until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, timeout_s=10)


def test_it_does_not_start_without_its_parent():
    command = [sys.executable, "-m", "immr.launch.with_parent", "1", "http.server", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and "parent process ended" in done.stderr
