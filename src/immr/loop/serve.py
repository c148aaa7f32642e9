"""All that serves on one machine while it is wanted: the deployed versions, the gateway, the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from immr import wiring
from immr.deploy.deployer import Deployment
from immr.deploy.local import LocalDeployer
from immr.errors import DeployError
from immr.experiment import changes
from immr.experiment.definition import Experiment, Variant, load, save
from immr.machine import processes
from immr.settings import Settings


@dataclass(frozen=True)
class Served:
    """Where to go to, and who serves what there."""

    search_url: str
    page_url: str
    experiment: Experiment


@contextmanager
def serving(settings: Settings, port: int, page_port: int, samples: Path | None = None) -> Iterator[Served]:
    """Deployed versions, gateway and page while the block runs; entered once all of them are ready.

    The experiment goes on where it was; without one the champion serves all users.

    Raises:
        DeployError: nothing is deployed, it is deployed elsewhere, or a process did not get ready; says why.
        ExperimentError: the experiment file is wrong.
    """
    deployer = wiring.deployer(settings)
    if not isinstance(deployer, LocalDeployer):
        raise DeployError(f"IMMR_DEPLOY_URL={settings.deploy_url} serves elsewhere: this is for local://")
    with ExitStack() as running:
        experiment = _experiment(settings, running.enter_context(deployer.running()))
        search_url = running.enter_context(gateway(settings, port))
        page_url = running.enter_context(page(settings, page_port, samples))
        yield Served(search_url, page_url, experiment)


@contextmanager
def gateway(settings: Settings, port: int) -> Iterator[str]:
    """The gateway while the block runs; yields its URL once it is ready."""
    with _application(settings, "serving.gateway", port, "/health/ready") as url:
        yield url


@contextmanager
def page(settings: Settings, port: int, samples: Path | None = None) -> Iterator[str]:
    """The page while the block runs, with photos of a folder to click on; yields its URL once it is there."""
    options = ("--samples", str(samples.absolute())) if samples else ()
    with _application(settings, "dashboards", port, "/health/live", *options) as url:
        yield url


@contextmanager
def _application(settings: Settings, module: str, port: int, ready: str, *options: str) -> Iterator[str]:
    url = f"http://127.0.0.1:{port}"
    log_file = settings.home / "logs" / f"{module.split('.')[-1]}.log"
    command = ["-m", module, "--port", str(port), *options]
    folder = wiring.service_folder().parent
    with processes.serving(command, settings.environment(), log_file, url + ready, folder=folder):
        yield url


def _experiment(settings: Settings, deployments: Sequence[Deployment]) -> Experiment:
    """The experiment in force, its variants where they serve now: a taken port was replaced by a free one."""
    url_of = {deployment.version_id: deployment.url for deployment in deployments}
    if settings.experiment_file.is_file():
        before = load(settings.experiment_file)
        variants = tuple(_moved(each, url_of) for each in before.variants)
        previous = _moved(before.previous, url_of) if before.previous else None
        experiment = replace(before, variants=variants, previous=previous)
        if experiment == before:
            return experiment
    else:
        champion = deployments[0]
        experiment = changes.begin((champion.version_id, champion.url), None, 0.0, datetime.now(UTC))
    save(experiment, settings.experiment_file)
    return experiment


def _moved(variant: Variant, url_of: Mapping[str, str]) -> Variant:
    return replace(variant, url=url_of.get(variant.model_version, variant.url))
