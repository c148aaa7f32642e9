"""Keeps one `bentoml serve` running per wanted deployment on this machine."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from immr.deploy.bento_content import built_content
from immr.deploy.bento_process import HOST, BentoProcess, earlier_log
from immr.deploy.deployer import Deployment
from immr.errors import DeployError
from immr.machine.backoff import Restarts

log = logging.getLogger(__name__)
Place = TypeVar("Place", bound=str)
Key = tuple[str, str]
"""Version and Bento. A version in two places, as during a promotion, is one process."""


@dataclass
class _Kept:
    process: BentoProcess
    content: str | None  # of the Bento it was started from
    restarts: Restarts = field(default_factory=Restarts)


class BentoSupervisor:
    """Starts what is wanted, stops what is not, and restarts what has exited. Not thread-safe."""

    def __init__(self, folder: Path, bento_home: Path, environment: Mapping[str, str]) -> None:
        """`folder` holds the logs; each process gets `environment` in addition to ours."""
        self._folder, self._bento_home = folder, bento_home
        self._environment = {**os.environ, **environment, "BENTOML_HOME": str(bento_home)}
        self._kept: dict[Key, _Kept] = {}

    def sync(
        self, wanted: Mapping[Place, Deployment], contents: Mapping[str, str] | None = None
    ) -> dict[Place, Deployment]:
        """Make the running processes those that are wanted; does not wait for them.

        Args:
            wanted: The deployments by place.
            contents: By Bento, the content that was deployed last. A process with an earlier one is replaced.

        Returns:
            The same with the addresses where they serve: a port in use is replaced by a free one.
        """
        keys = {_key(each) for each in wanted.values()}
        for key in [key for key in self._kept if key not in keys]:
            self._kept.pop(key).process.stop()
        for deployment in wanted.values():
            if (kept := self._kept.get(_key(deployment))) is None:
                content = built_content(self._bento_home, deployment.bento)
                self._kept[_key(deployment)] = _Kept(self._start(deployment), content)
            elif self._is_outdated(kept, (contents or {}).get(deployment.bento)):
                log.info("%s was packaged again and deployed: its process is replaced", deployment.version_id)
                self._replace(kept)
            else:
                self._restart_if_exited(kept)
        return {place: replace(each, url=self.process(each).deployment.url) for place, each in wanted.items()}

    def process(self, deployment: Deployment) -> BentoProcess:
        """The process of a deployment."""
        return self._kept[_key(deployment)].process

    def wait_until_ready(self, deployment: Deployment, deadline: float) -> None:
        """Wait for a deployment's process; if another program took its port first, start it on a free one.

        Args:
            deployment: One of those wanted; `process` has its address afterwards.
            deadline: Of `time.monotonic`.

        Raises:
            DeployError: The process exited or was not ready in time.
        """
        kept = self._kept[_key(deployment)]
        try:
            kept.process.wait_until_ready(deadline)
        except DeployError:
            port = urlsplit(kept.process.deployment.url).port or 0
            if kept.process.popen.poll() is None or _free_port(port, set()) == port:
                raise
            log.warning("another program took port %d while %s started", port, deployment.version_id)
            self._replace(kept)
            kept.process.wait_until_ready(deadline)

    def stop(self) -> None:
        """Stop every process."""
        while self._kept:
            self._kept.popitem()[1].process.stop()

    def _start(self, deployment: Deployment) -> BentoProcess:
        others = (each.process for key, each in self._kept.items() if key != _key(deployment))
        taken = {urlsplit(each.deployment.url).port or 0 for each in others}
        port = _free_port(urlsplit(deployment.url).port or 0, taken)
        there = replace(deployment, url=f"http://{HOST}:{port}")
        return BentoProcess.start(there, self._environment, self._folder, deployment.version_id)

    def _restart_if_exited(self, kept: _Kept) -> None:
        if (code := kept.process.popen.poll()) is None:
            return
        if (wait_s := kept.restarts.exited()) is not None:
            log.warning(
                "%s exited with code %s: it is started again in %g s, and its output is then in %s",
                kept.process.deployment.version_id,
                code,
                wait_s,
                earlier_log(kept.process.log_file),
            )
        elif kept.restarts.is_due():
            self._replace(kept)  # stops it, too: a worker may have outlived its supervisor

    def _is_outdated(self, kept: _Kept, deployed: str | None) -> bool:
        if deployed in (None, kept.content):
            return False
        return built_content(self._bento_home, kept.process.deployment.bento) == deployed

    def _replace(self, kept: _Kept) -> None:
        kept.process.stop()
        kept.content = built_content(self._bento_home, kept.process.deployment.bento)
        kept.process = self._start(kept.process.deployment)
        kept.restarts.started()


def _key(deployment: Deployment) -> Key:
    return deployment.version_id, deployment.bento


def _free_port(wanted: int, taken: set[int]) -> int:
    for port in (wanted, 0):
        if port in taken:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DeployError(f"no port is free on {HOST}: stop the processes that use them")
