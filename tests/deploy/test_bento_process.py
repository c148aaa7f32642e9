import os
import time
from pathlib import Path

import pytest

from immr.deploy.bento_process import BentoProcess
from immr.deploy.deployer import Deployment
from immr.errors import DeployError
from tests.support.upstream_process import free_port


def test_a_process_that_exits_is_reported_with_its_last_lines(tmp_path: Path) -> None:
    deployment = Deployment("champion", "immr-1", "immr-search:no-such", f"http://127.0.0.1:{free_port()}")
    environment = {**os.environ, "BENTOML_HOME": str(tmp_path / "bentoml")}
    process = BentoProcess.start(deployment, environment, tmp_path / "deployments")
    try:
        with pytest.raises(DeployError, match=r"exited with code \d+; the last lines of .*champion\.log:\n"):
            process.wait_until_ready(time.monotonic() + 240)
    finally:
        process.stop()


def test_a_process_that_is_not_ready_in_time_is_reported(tmp_path: Path) -> None:
    deployment = Deployment("champion", "immr-1", "immr-search:no-such", f"http://127.0.0.1:{free_port()}")
    process = BentoProcess.start(deployment, dict(os.environ), tmp_path)
    try:
        with pytest.raises(DeployError, match=r"was not ready in time \(no answer: "):
            process.wait_until_ready(time.monotonic() - 1)
    finally:
        process.stop()
    assert process.popen.poll() is not None
