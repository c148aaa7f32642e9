"""One `bentoml serve` process: started, waited for, and stopped with all of its workers."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from immr.deploy import process_marks
from immr.deploy.deployer import Deployment
from immr.deploy.readiness import not_ready_because
from immr.errors import DeployError
from immr.machine.processes import wrong_setting

log = logging.getLogger(__name__)
HOST = "127.0.0.1"
STOP_TIMEOUT_S = 10.0
_SHOWN_LINES = 15
_REPORT_EVERY_S = 10.0


@dataclass(frozen=True)
class BentoProcess:
    """`bentoml serve` of one deployment: a supervisor and its worker, both found by their mark."""

    deployment: Deployment
    popen: subprocess.Popen[bytes]
    log_file: Path
    mark: str

    @classmethod
    def start(
        cls, deployment: Deployment, environment: Mapping[str, str], folder: Path, name: str
    ) -> BentoProcess:
        """Start the process; its output goes to `<folder>/<name>.log`, and that of an earlier one to `….log.1`."""
        log_file = folder / f"{name}.log"
        with suppress(FileNotFoundError):
            log_file.replace(earlier_log(log_file))
        mark = process_marks.mark(folder, name)
        port = urlsplit(deployment.url).port
        command = [sys.executable, "-m", "immr.packaging.serve", deployment.bento]
        command += ["--host", HOST, "--port", str(port)]
        log_file.parent.mkdir(parents=True, exist_ok=True)
        with log_file.open("wb") as output:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**environment, "BENTOML_DO_NOT_TRACK": "True", process_marks.MARK: mark},
                start_new_session=True,  # so that Ctrl-C reaches only this process, which then stops it
            )
        log.info("starting %s at %s, log in %s", deployment.bento, deployment.url, log_file)
        return cls(deployment, popen, log_file, mark)

    def wait_until_ready(self, deadline: float) -> None:
        """Poll /health/ready until the process is ready, or until `deadline` (`time.monotonic`).

        Raises:
            DeployError: A setting keeps it from starting; or it exited or was not ready in time, and the message
                quotes its last lines.
        """
        begun = time.monotonic()
        next_report = begun + _REPORT_EVERY_S
        while True:
            reason = not_ready_because(self.deployment.url, self.deployment.version_id)
            if reason is None:
                return
            # BentoML starts a worker that cannot start over and over, so the process does not exit
            if wrong := wrong_setting(self.log_file.read_text(errors="replace")):
                raise DeployError(f"{self.deployment.bento} cannot start: {wrong}")
            if self.popen.poll() is not None:
                raise self._failure(f"exited with code {self.popen.returncode}")
            if time.monotonic() > deadline:
                raise self._failure(f"was not ready in time ({reason})")
            if (now := time.monotonic()) >= next_report:
                next_report = now + _REPORT_EVERY_S
                log.info(
                    "%s is not ready after %.0f s (%s), still waiting",
                    self.deployment.version_id,
                    now - begun,
                    reason,
                )
            time.sleep(0.2)

    def stop(self) -> None:
        """Stop the process and its workers, which BentoML starts in separate sessions."""
        process_marks.stop(self.mark, STOP_TIMEOUT_S)
        self.popen.kill()  # in its first moment a process does not show its mark
        self.popen.wait()
        log.info("stopped %s", self.deployment.bento)

    def _failure(self, what: str) -> DeployError:
        lines = self.log_file.read_text(errors="replace").splitlines()[-_SHOWN_LINES:]
        return DeployError(
            f"{self.deployment.bento} at {self.deployment.url} {what}; "
            f"the last lines of {self.log_file}:\n" + "\n".join(lines)
        )


def earlier_log(log_file: Path) -> Path:
    """Where a process's output is once another one has been started in its place."""
    return log_file.with_name(f"{log_file.name}.1")
