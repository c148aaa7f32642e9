"""Versions on this machine: the desired state in a file, and `bentoml serve` processes while `immr serve` runs."""

from __future__ import annotations

import fcntl
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TypeAlias

from immr.deploy import process_marks
from immr.deploy.bento_content import built_content
from immr.deploy.bento_process import HOST, STOP_TIMEOUT_S
from immr.deploy.deployer import Deployment
from immr.deploy.supervisor import BentoSupervisor
from immr.errors import DeployError
from immr.machine.wording import counted
from immr.storage.atomic import write_atomically
from immr.types import ALL_ROLES, ModelVersion, Role

log = logging.getLogger(__name__)

DEFAULT_PORTS: Mapping[Role, int] = {role: 3001 + place for place, role in enumerate(ALL_ROLES)}
READY_TIMEOUT_S = 120.0
Place: TypeAlias = str
"""A role, or "previous": the last champion, kept running for a rollback."""
_ORDER: tuple[Place, ...] = (*ALL_ROLES, "previous")


class LocalDeployer:
    """A `Deployer` for one machine. `apply` writes the desired state; `running` and `follow` make it so.

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
        self._supervisor: BentoSupervisor | None = None

    def apply(self, version: ModelVersion, bento: str, role: Role) -> Deployment:
        """See `Deployer.apply`; a version that is already deployed keeps its address.

        If its Bento was packaged again, its process is replaced. A promotion or rollback replaces none.
        """
        with self._changing():
            return self._apply(version, bento, role)

    def _apply(self, version: ModelVersion, bento: str, role: Role) -> Deployment:
        before = self._wanted()
        same = {place: each for place, each in before.items() if _is_of(each, version, bento)}
        if role in same or not (role == "champion" and same):
            self._release(bento, {each.bento for each in before.values()})
        if role in same:
            return same[role]
        url = next(iter(same.values())).url if same else f"http://{HOST}:{self._ports[role]}"
        wanted = {**before, role: Deployment(role, version.id, bento, url)}
        if role == "champion":
            if role in before and before[role].version_id != version.id:
                wanted["previous"] = before[role]
            elif "previous" in wanted and wanted["previous"].version_id == version.id:
                del wanted["previous"]
        self._write(wanted)
        return wanted[role]

    def _release(self, bento: str, others: set[str]) -> None:
        """Note the Bento's present content, which its process shall have."""
        contents = self._contents()
        content = built_content(self._bento_home, bento)
        if content is None or contents.get(bento) == content:
            return
        kept = {tag: value for tag, value in contents.items() if tag in others}
        write_atomically(self._contents_file, json.dumps(kept | {bento: content}, indent=1) + "\n")

    def _contents(self) -> dict[str, str]:
        try:
            return dict(json.loads(self._contents_file.read_text()))
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError) as error:
            raise DeployError(
                f"{self._contents_file} is damaged ({error}): delete it and deploy again"
            ) from error

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
        with self._changing():
            self._write({place: each for place, each in self._wanted().items() if place not in gone})

    @contextmanager
    def running(
        self, ready_timeout_s: float = READY_TIMEOUT_S, challenger_must_start: bool = True
    ) -> Iterator[Sequence[Deployment]]:
        """Run every deployed version for the duration of the block.

        The previous champion starts too, and is not waited for.

        Args:
            ready_timeout_s: How long the versions have until they are ready.
            challenger_must_start: Otherwise the block also starts without it, and its failure is logged.

        Yields:
            The running deployments, champion first. A port in use is replaced by a free one, also in the state
            file.

        Raises:
            DeployError: Nothing is deployed, another process serves this home, or a version exited or was not
                ready in time.
        """
        if not self.current():
            raise DeployError("nothing is deployed: run `immr deploy` first")
        with self._alone(), ExitStack() as stack:
            if left := process_marks.stop_orphans(self._folder, STOP_TIMEOUT_S):
                log.warning("stopped %s that a killed `immr serve` had left behind", counted(left, "process"))
            self._supervisor = BentoSupervisor(self._folder, self._bento_home, self._environment)
            stack.callback(self._supervisor.stop)
            deployments = self._sync()
            deadline = time.monotonic() + ready_timeout_s
            for place, deployment in deployments.items():
                if place == "previous":
                    continue
                try:
                    self._supervisor.wait_until_ready(deployment, deadline)
                except DeployError as error:
                    if challenger_must_start or deployment.role == "champion":
                        raise
                    log.error("%s", error)
            yield self.follow()

    def follow(self) -> Sequence[Deployment]:
        """Within `running`: start, replace and stop processes as the deployments have changed since.

        Returns:
            What runs now, champion first and the previous champion last; it may not be ready yet.
        """
        return list(self._sync().values())

    def _sync(self) -> dict[Place, Deployment]:
        assert self._supervisor is not None, "only within `running`"
        with self._changing():
            wanted = self._wanted()
            served = self._supervisor.sync(wanted, self._contents())
            if served != wanted:
                self._write(served)
        return served

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Refuse a second process that serves this home."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "serving.lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise DeployError(
                    f"another process serves the versions in {self._folder} already: use it, or stop it first"
                ) from error
            yield

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One change of the state file at a time."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "deployments.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @property
    def _state_file(self) -> Path:
        return self._folder / "deployments.json"

    @property
    def _contents_file(self) -> Path:
        """A file of its own, because earlier releases refuse an unknown field in the other."""
        return self._folder / "contents.json"

    def _write(self, deployments: Mapping[Place, Deployment]) -> None:
        rows = [asdict(deployments[place]) | {"place": place} for place in _ORDER if place in deployments]
        write_atomically(self._state_file, json.dumps(rows, indent=1) + "\n")


def _is_of(deployment: Deployment, version: ModelVersion, bento: str) -> bool:
    return (deployment.version_id, deployment.bento) == (version.id, bento)
