"""Versions that serve on this machine: wanted state in a file, `bentoml serve` processes while it runs."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from immr.deploy import marked
from immr.deploy.deployer import Deployment
from immr.deploy.readiness import not_ready_because
from immr.errors import DeployError
from immr.storage.atomic import write_atomically
from immr.types import ModelVersion, Role

log = logging.getLogger(__name__)

DEFAULT_PORTS: Mapping[Role, int] = {"champion": 3001, "challenger": 3002}
READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0
_HOST = "127.0.0.1"
Place = Role | Literal["previous"]
"""A role, or where the champion before waits for a rollback."""
_ORDER: tuple[Place, ...] = ("champion", "challenger", "previous")


class LocalDeployer:
    """A `Deployer` for one machine. `apply` says what is wanted; `running` starts it.

    What a new champion replaces is started too, in no role, so that a rollback finds it running.
    """

    def __init__(
        self,
        folder: Path,
        bento_home: Path,
        environment: Mapping[str, str],
        ports: Mapping[Role, int] = DEFAULT_PORTS,
    ) -> None:
        """`folder` keeps the wanted state and the logs; `environment` is added to that of each process."""
        self._folder = folder
        self._bento_home = bento_home
        self._environment = dict(environment)
        self._ports = dict(ports)

    def apply(self, version: ModelVersion, bento: str, role: Role) -> Deployment:
        """See `Deployer.apply`: wants this version in this role; a running one goes on where it is."""
        there = self._wanted()
        same = {place: each for place, each in there.items() if _is_of(each, version, bento)}
        if role in same:
            return same[role]
        url = next(iter(same.values())).url if same else f"http://{_HOST}:{self._ports[role]}"
        wanted = {**there, role: Deployment(role, version.id, bento, url)}
        if role == "champion" and role in there and there[role].version_id != version.id:
            wanted["previous"] = there[role]
        elif "previous" in wanted and wanted["previous"].version_id == version.id:
            del wanted["previous"]
        self._write(wanted)
        return wanted[role]

    def current(self) -> Sequence[Deployment]:
        """See `Deployer.current`.

        Raises:
            DeployError: the state's file is broken.
        """
        return [deployment for place, deployment in self._wanted().items() if place != "previous"]

    def _wanted(self) -> dict[Place, Deployment]:
        try:
            rows = json.loads(self._state_file.read_text())
            return {row.pop("place", row["role"]): Deployment(**row) for row in rows}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DeployError(
                f"{self._state_file} is broken ({error}): delete it and deploy again"
            ) from error

    def remove(self, role: Role) -> None:
        """See `Deployer.remove`; a role in which nothing serves is fine. A champion's previous goes too."""
        gone = {role, "previous"} if role == "champion" else {role}
        self._write({place: each for place, each in self._wanted().items() if place not in gone})

    @contextmanager
    def running(self, ready_timeout_s: float = READY_TIMEOUT_S) -> Iterator[Sequence[Deployment]]:
        """Every wanted version as a process that is ready; none is left on the way out, whatever happens.

        The champion before comes up last, and nothing waits for it.

        Yields:
            What serves, champion first. A taken port is replaced by a free one, and the state says so.

        Raises:
            DeployError: nothing is wanted, or one ended or was not ready in time; with its last lines.
        """
        if not self.current():
            raise DeployError("nothing is deployed: run `immr deploy` first")
        if left := marked.stop_orphans(self._folder, STOP_TIMEOUT_S):
            log.warning("stopped %d processes that a killed run had left behind", left)
        with ExitStack() as stack:
            deployments = self._on_free_ports(self._wanted())
            self._write(deployments)
            previous = deployments.pop("previous", None)
            processes = [stack.enter_context(self._process(*each)) for each in deployments.items()]
            deadline = time.monotonic() + ready_timeout_s
            for process in processes:
                process.wait_until_ready(deadline)
            if previous is not None:
                stack.enter_context(self._process("previous", previous))
            yield [*deployments.values(), *([previous] if previous else [])]

    @contextmanager
    def _process(self, place: Place, deployment: Deployment) -> Iterator[BentoProcess]:
        process = BentoProcess.start(
            deployment,
            {**os.environ, **self._environment, "BENTOML_HOME": str(self._bento_home)},
            self._folder,
            place,
        )
        try:
            yield process
        finally:
            process.stop()

    def _on_free_ports(self, wanted: Mapping[Place, Deployment]) -> dict[Place, Deployment]:
        taken: set[int] = set()
        deployments = {}
        for place, deployment in wanted.items():
            port = _free_port(urlsplit(deployment.url).port or 0, taken)
            taken.add(port)
            deployments[place] = replace(deployment, url=f"http://{_HOST}:{port}")
        return deployments

    @property
    def _state_file(self) -> Path:
        return self._folder / "deployments.json"

    def _write(self, deployments: Mapping[Place, Deployment]) -> None:
        rows = [asdict(deployments[place]) | {"place": place} for place in _ORDER if place in deployments]
        write_atomically(self._state_file, json.dumps(rows, indent=1) + "\n")


@dataclass(frozen=True)
class BentoProcess:
    """`bentoml serve` of one deployment: a supervisor and its worker, found again by their mark."""

    deployment: Deployment
    popen: subprocess.Popen[bytes]
    log_file: Path
    mark: str

    @classmethod
    def start(
        cls, deployment: Deployment, environment: Mapping[str, str], folder: Path, name: str = ""
    ) -> BentoProcess:
        """Start it; its output goes to a log file in the folder, by its name or else its role."""
        log_file = folder / f"{name or deployment.role}.log"
        mark = marked.mark(folder, name or deployment.role)
        port = urlsplit(deployment.url).port
        command = [sys.executable, "-m", "bentoml", "serve", deployment.bento]
        command += ["--host", _HOST, "--port", str(port)]
        log_file.parent.mkdir(parents=True, exist_ok=True)
        with log_file.open("wb") as output:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**environment, "BENTOML_DO_NOT_TRACK": "True", marked.MARK: mark},
                start_new_session=True,  # a Ctrl-C is ours to pass on
            )
        log.info("%s starts at %s, log in %s", deployment.bento, deployment.url, log_file)
        return cls(deployment, popen, log_file, mark)

    def wait_until_ready(self, deadline: float) -> None:
        """Ask /health/ready until it says yes; `deadline` is of time.monotonic().

        Raises:
            DeployError: it ended, or the deadline passed; with its reason and its last lines.
        """
        while True:
            reason = not_ready_because(self.deployment.url, self.deployment.version_id)
            if reason is None:
                return
            if self.popen.poll() is not None:
                raise self._failure(f"ended with exit code {self.popen.returncode}")
            if time.monotonic() > deadline:
                raise self._failure(f"did not get ready in time ({reason})")
            time.sleep(0.2)

    def stop(self) -> None:
        """End it with its workers, which BentoML puts into sessions of their own; nothing of it survives."""
        marked.stop(self.mark, STOP_TIMEOUT_S)
        self.popen.wait()
        log.info("%s has stopped", self.deployment.bento)

    def _failure(self, what: str) -> DeployError:
        lines = self.log_file.read_text(errors="replace").splitlines()[-15:]
        return DeployError(
            f"{self.deployment.bento} at {self.deployment.url} {what}; "
            f"the last lines of {self.log_file}:\n" + "\n".join(lines)
        )


def _free_port(wanted: int, taken: set[int]) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            found = int(probe.getsockname()[1])
            if found not in taken:
                return found
    raise DeployError(f"no free port on {_HOST}: stop what holds them")


def _is_of(deployment: Deployment, version: ModelVersion, bento: str) -> bool:
    return (deployment.version_id, deployment.bento) == (version.id, bento)
