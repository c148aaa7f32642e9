"""Versions on this machine: the desired state in a file, and `bentoml serve` processes while `immr serve` runs."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from immr.deploy import marked
from immr.deploy.bento_process import HOST, STOP_TIMEOUT_S, BentoProcess
from immr.deploy.deployer import Deployment
from immr.errors import DeployError
from immr.storage.atomic import write_atomically
from immr.types import ModelVersion, Role

log = logging.getLogger(__name__)

DEFAULT_PORTS: Mapping[Role, int] = {"champion": 3001, "challenger": 3002}
READY_TIMEOUT_S = 120.0
Place = Role | Literal["previous"]
"""A role, or `previous`: the last champion, kept running for a rollback."""
_ORDER: tuple[Place, ...] = ("champion", "challenger", "previous")


class LocalDeployer:
    """A `Deployer` for one machine. `apply` writes the desired state; `running` starts it.

    The previous champion is started too, without a role, so that a rollback finds it running.
    """

    def __init__(
        self,
        folder: Path,
        bento_home: Path,
        environment: Mapping[str, str],
        ports: Mapping[Role, int] = DEFAULT_PORTS,
    ) -> None:
        """`folder` holds the desired state and the logs; each process gets `environment` in addition to ours."""
        self._folder = folder
        self._bento_home = bento_home
        self._environment = dict(environment)
        self._ports = dict(ports)

    def apply(self, version: ModelVersion, bento: str, role: Role) -> Deployment:
        """See `Deployer.apply`; a version that is already deployed keeps its address."""
        before = self._wanted()
        same = {place: each for place, each in before.items() if _is_of(each, version, bento)}
        if role in same:
            return same[role]
        url = next(iter(same.values())).url if same else f"http://{HOST}:{self._ports[role]}"
        wanted = {**before, role: Deployment(role, version.id, bento, url)}
        if role == "champion" and role in before and before[role].version_id != version.id:
            wanted["previous"] = before[role]
        elif "previous" in wanted and wanted["previous"].version_id == version.id:
            del wanted["previous"]
        self._write(wanted)
        return wanted[role]

    def current(self) -> Sequence[Deployment]:
        """See `Deployer.current`.

        Raises:
            DeployError: The state file is damaged.
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
                f"{self._state_file} is damaged ({error}): delete it and deploy again"
            ) from error

    def remove(self, role: Role) -> None:
        """See `Deployer.remove`; with the champion, the previous one is removed too."""
        gone = {role, "previous"} if role == "champion" else {role}
        self._write({place: each for place, each in self._wanted().items() if place not in gone})

    @contextmanager
    def running(self, ready_timeout_s: float = READY_TIMEOUT_S) -> Iterator[Sequence[Deployment]]:
        """Run every deployed version for the duration of the block.

        The previous champion starts last, and is not waited for.

        Yields:
            The running deployments, champion first. A port in use is replaced by a free one, also in the state
            file.

        Raises:
            DeployError: Nothing is deployed, or a process exited or was not ready in time.
        """
        if not self.current():
            raise DeployError("nothing is deployed: run `immr deploy` first")
        if left := marked.stop_orphans(self._folder, STOP_TIMEOUT_S):
            log.warning("stopped %d processes that a killed `immr serve` had left behind", left)
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
            deployments[place] = replace(deployment, url=f"http://{HOST}:{port}")
        return deployments

    @property
    def _state_file(self) -> Path:
        return self._folder / "deployments.json"

    def _write(self, deployments: Mapping[Place, Deployment]) -> None:
        rows = [asdict(deployments[place]) | {"place": place} for place in _ORDER if place in deployments]
        write_atomically(self._state_file, json.dumps(rows, indent=1) + "\n")


def _free_port(wanted: int, taken: set[int]) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            free = int(probe.getsockname()[1])
            if free not in taken:
                return free
    raise DeployError(f"no port is free on {HOST}: stop the processes that use them")


def _is_of(deployment: Deployment, version: ModelVersion, bento: str) -> bool:
    return (deployment.version_id, deployment.bento) == (version.id, bento)
