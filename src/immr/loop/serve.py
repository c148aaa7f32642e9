"""Serve: run the deployed versions, the gateway and the page on this machine."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from immr.deploy import process_marks
from immr.errors import DeployError, ExperimentBusyError, ImmrError, IndexUnavailableError
from immr.experiment import changes
from immr.experiment.definition import CHAMPION, Experiment, Variant
from immr.experiment.file import load, save
from immr.loop.experiment.decide import decide
from immr.loop.experiment.queue import advance
from immr.loop.experiment.recovery import complete_interrupted
from immr.loop.experiment.running_test import exclusive, running_test
from immr.loop.items import service as items_service
from immr.machine import processes
from immr.machine.repeated_messages import repeats_once_a_minute
from immr.machine.wording import counted
from immr.packaging.application import application_folder

if TYPE_CHECKING:
    from pathlib import Path

    from immr.deploy.deployer import Deployment
    from immr.deploy.local import LocalDeployer
    from immr.settings import Settings
    from immr.wiring import Parts

log = logging.getLogger(__name__)

_CHECK_RAMP_EVERY_S = 30.0


@dataclass(frozen=True)
class Served:
    """The URLs to open, and the current experiment.

    Attributes:
        follow: Call it every few seconds. It starts and stops versions as they are deployed and removed,
            starts what has exited again, and the test of a version that waited. Its failures are logged.
    """

    search_url: str
    page_url: str
    experiment: Experiment
    follow: Callable[[], None]


@contextmanager
def serve(parts: Parts, port: int, page_port: int, samples: Path | None = None) -> Iterator[Served]:
    """Run deployed versions, gateway and page for the duration of the block.

    It starts once all are ready. If a challenger cannot start, the champion answers its users. A running
    experiment continues. Without one, the champion serves all users. Commands that change the catalogue of this
    home are performed here (`immr.loop.items.service`).

    Args:
        parts: The process's adapters.
        port: The gateway's port.
        page_port: The page's port.
        samples: A folder of photos that the page offers to search with.

    Raises:
        DeployError: Nothing is deployed, it is deployed elsewhere, a port is taken, or a process did not become
            ready; the message names which.
        ExperimentError: The experiment file is wrong, or another process is changing it.
    """
    from immr.deploy.local import LocalDeployer

    deployer = parts.deployer
    if not isinstance(deployer, LocalDeployer):
        raise DeployError(
            f"IMMR_DEPLOY_URL={parts.settings.deploy_url} does not serve on this machine: `immr serve` needs local://"
        )
    for wanted in (port, page_port):
        _refuse_taken(parts.settings, wanted)
    _refuse_other_engine(parts)
    with ExitStack() as running:
        deployments = running.enter_context(deployer.running(challenger_must_start=False))
        experiment = _experiment(parts, deployments)
        search = running.enter_context(gateway(parts, port))
        shown = running.enter_context(page(parts, page_port, samples, search.url))
        running.enter_context(items_service.serving(parts))
        running.enter_context(repeats_once_a_minute())
        follower = _Follower(parts, deployer, [search.server, shown.server])
        yield Served(search.url, shown.url, experiment, follower)


@dataclass(frozen=True)
class Application:
    """The gateway or the page, in a process of its own."""

    url: str
    server: processes.Server


class _Follower:
    """Follows changes that other processes make, and restarts what has exited.

    A duty that fails keeps no other from its work. Each failure is logged once.
    """

    def __init__(
        self, parts: Parts, deployer: LocalDeployer, servers: Sequence[processes.Server] = ()
    ) -> None:
        self._parts, self._deployer, self._servers = parts, deployer, servers
        self._failures: set[str] = set()
        self._next_check = 0.0

    def __call__(self) -> None:
        duties: tuple[Callable[[], object], ...] = (
            *(server.restart_if_exited for server in self._servers),
            self._follow_deployments,
            self._parts.alerts.resume,
            lambda: complete_interrupted(self._parts),
            lambda: advance(self._parts),
            self._guard_ramp,
        )
        failures: dict[str, Exception | None] = {}  # with the exception if only its traceback explains it
        for duty in duties:
            try:
                duty()
            except ExperimentBusyError:
                failures["another command is changing the test; its result is followed once it ends"] = None
            except (ImmrError, OSError) as error:
                failures[str(error)] = None
            except Exception as error:  # any error: shoppers are being served
                failures[f"unexpected: {error!r}"] = error
        for failure, unexpected in failures.items():
            if failure not in self._failures:
                log.warning("%s", failure, exc_info=unexpected)
        self._failures = set(failures)

    def _follow_deployments(self) -> None:
        _experiment(self._parts, self._deployer.follow())

    def _guard_ramp(self) -> None:
        """A ramp advances and ends by itself."""
        running, now = running_test(self._parts), time.monotonic()
        if running is None or running.ramp_every_s is None or now < self._next_check:
            return
        self._next_check = now + _CHECK_RAMP_EVERY_S
        decide(self._parts, apply=True, record_wait=False)


@contextmanager
def gateway(parts: Parts, port: int) -> Iterator[Application]:
    """Run the gateway for the duration of the block, which starts once it is ready.

    Raises:
        DeployError: The port is taken, or the gateway did not become ready.
    """
    with _application(parts.settings, "serving.gateway", port, "/health/ready") as started:
        yield started


@contextmanager
def page(parts: Parts, port: int, samples: Path | None = None, search_url: str = "") -> Iterator[Application]:
    """Run the page for the duration of the block, which starts once it is ready.

    `search_url` is the gateway's, to which the page links unless IMMR_API_LINK names another.

    Raises:
        DeployError: The port is taken, or the page did not become ready.
    """
    options = ("--samples", str(samples.absolute())) if samples else ()
    links = {"api_link": parts.settings.api_link or search_url}
    settings = parts.settings.model_copy(update=links)
    with _application(settings, "dashboards", port, "/health/live", *options) as started:
        yield started


@contextmanager
def _application(
    settings: Settings, module: str, port: int, ready: str, *options: str
) -> Iterator[Application]:
    _refuse_taken(settings, port)
    url = f"http://127.0.0.1:{port}"
    log_file = settings.home / "logs" / f"{module.split('.')[-1]}.log"
    command = ["-m", module, "--port", str(port), *options]
    environment = settings.serving_environment() | {
        process_marks.MARK: process_marks.mark(settings.deployments_dir, module)
    }
    folder = application_folder()
    with processes.serving(command, environment, log_file, url + ready, folder=folder) as server:
        yield Application(url, server)


def _refuse_other_engine(parts: Parts) -> None:
    """A champion whose collection was built with other settings would never become ready."""
    champions = [each.version_id for each in parts.deployer.current() if each.role == CHAMPION]
    with suppress(IndexUnavailableError):  # its Bento waits for the database
        for version in champions:
            if obstacle := parts.index.obstacle(version):
                raise DeployError(obstacle)


def _refuse_taken(settings: Settings, port: int) -> None:
    """Another server on this port would answer our readiness check in place of our own process.

    One that a killed `immr serve` has left behind is stopped.
    """
    taken = _taken_because(port)
    if taken and (left := process_marks.stop_orphans(settings.deployments_dir, processes.STOP_TIMEOUT_S)):
        log.warning("stopped %s that a killed `immr serve` had left behind", counted(left, "process"))
        taken = _taken_because(port)
    if taken:
        raise DeployError(
            f"port {port} cannot be used ({taken}): stop what listens there, or choose another port"
        )


def _taken_because(port: int) -> str:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.strerror or str(error)
    return ""


def _experiment(parts: Parts, deployments: Sequence[Deployment]) -> Experiment:
    """The current experiment, with the addresses where its variants serve now."""
    file = parts.settings.experiment_file
    if file.is_file() and (before := load(file)) == _at_addresses(before, deployments):
        return before
    with exclusive(parts):
        if file.is_file():
            experiment = _at_addresses(load(file), deployments)
        else:
            champion = deployments[0]
            experiment = changes.begin((champion.version_id, champion.url), {}, 0.0, datetime.now(UTC))
        save(experiment, file)
    return experiment


def _at_addresses(experiment: Experiment, deployments: Sequence[Deployment]) -> Experiment:
    url_of = {deployment.version_id: deployment.url for deployment in deployments}
    variants = tuple(_moved(each, url_of) for each in experiment.variants)
    previous = _moved(experiment.previous, url_of) if experiment.previous else None
    return replace(experiment, variants=variants, previous=previous)


def _moved(variant: Variant, url_of: Mapping[str, str]) -> Variant:
    return replace(variant, url=url_of.get(variant.model_version, variant.url))
