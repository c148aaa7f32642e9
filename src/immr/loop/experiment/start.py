"""Start: compare the deployed challenger with the champion, or let it answer in shadow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from immr.deploy.readiness import not_ready_because
from immr.errors import ExperimentError, ExperimentRunningError
from immr.experiment import changes
from immr.experiment.definition import Experiment, Kind, load, save
from immr.experiment.waiting import load_queue, save_queue
from immr.loop.experiment.history import note
from immr.loop.experiment.rollback import rollback_incomplete
from immr.loop.experiment.running import exclusive, running_test
from immr.loop.watch import planned_users

if TYPE_CHECKING:
    from immr.deploy.deployer import Deployment
    from immr.types import Role
    from immr.wiring import Parts


def start(
    parts: Parts,
    weight: float = 0.5,
    kind: Kind = "ab",
    ramp: Sequence[float] = (),
    ramp_every_s: int | None = None,
) -> Experiment:
    """Compare the registry's challenger with its champion; both must be deployed and answer now.

    The test begins once the challenger has answered, so fallbacks from before do not count against it. Without
    a challenger the champion serves all users.

    Args:
        parts: The process's adapters.
        weight: The challenger's share of the users, between 0 and 1.
        kind: "ab": these users get the challenger's results. "interleave": they get both versions' items in one
            list of results.
        ramp: The challenger's next shares; `decide` moves on to them while guardrails hold.
        ramp_every_s: How long each share lasts.

    Raises:
        ExperimentError: A test is already running, or a version is not deployed or does not answer.
    """
    with exclusive(parts):
        return start_locked(parts, weight, kind, ramp, ramp_every_s)


def start_locked(
    parts: Parts,
    weight: float,
    kind: Kind = "ab",
    ramp: Sequence[float] = (),
    ramp_every_s: int | None = None,
) -> Experiment:
    """`start` for callers that hold the experiment's lock."""
    _refuse_second_test(parts)
    changes.check_weight(weight)
    champion, challenger = _deployed(parts)
    if challenger is None:
        return _save_begun(parts, changes.begin(champion, None, 0.0, datetime.now(UTC)))
    for role, (version, url) in (("champion", champion), ("challenger", challenger)):
        _refuse_silent(parts, role, version, url)
    planned = planned_users(parts, champion, weight) if kind == "ab" else None
    now = datetime.now(UTC)
    begun = changes.begin(champion, challenger, weight, now, kind, planned, ramp, ramp_every_s)
    begun = _save_begun(parts, begun)
    note(parts, begun, "started")
    queue = load_queue(parts.settings.queue_file)
    if (without := queue.without(challenger[0])) != queue:
        save_queue(without, parts.settings.queue_file)
    return begun


def shadow(parts: Parts) -> Experiment:
    """Send the champion's searches to the registry's challenger too, without showing its results.

    Raises:
        ExperimentError: A test is already running, or a version is not deployed or does not answer.
    """
    with exclusive(parts):
        _refuse_second_test(parts)
        champion, challenger = _deployed(parts)
        if challenger is None:
            raise ExperimentError("there is no challenger to shadow: package and deploy a version first")
        _refuse_silent(parts, "challenger", *challenger)
        return _save_begun(parts, changes.shadow(champion, challenger, datetime.now(UTC)))


def answers(parts: Parts, deployment: Deployment) -> str | None:
    """Why a deployed version does not answer searches at its address; None if it does.

    A version is ready once its index is complete, see `/health/ready`.
    """
    return _silent_because(parts, deployment.version_id, deployment.url)


def _silent_because(parts: Parts, version: str, url: str) -> str | None:
    home = parts.settings.home_id if parts.settings.deploys_here else ""
    return not_ready_because(url, version, home_id=home)


def _refuse_silent(parts: Parts, role: str, version: str, url: str) -> None:
    """A version that does not answer makes every one of its searches a fallback, and is rolled back for it."""
    if (reason := _silent_because(parts, version, url)) is None:
        return
    remedy = (
        "start `immr serve` and wait until it reports this version"
        if parts.settings.deploys_here
        else "wait until it is ready, or read its log"
    )
    raise ExperimentError(f"the {role} {version} does not answer at {url} ({reason}): {remedy}")


def _deployed(parts: Parts) -> tuple[tuple[str, str], tuple[str, str] | None]:
    """Model version and URL of the champion, and of the challenger if there is one."""
    deployments = {each.role: each for each in parts.deployer.current()}
    champion = _serving(parts, deployments, "champion")
    if champion is None:
        raise ExperimentError("there is no champion to start with: train, package and deploy a version first")
    return champion, _serving(parts, deployments, "challenger")


def _serving(parts: Parts, deployments: dict[Role, Deployment], role: Role) -> tuple[str, str] | None:
    """Model version and URL of a role; None if no version has it."""
    version = parts.registry.role(role)
    if version is None:
        return None
    deployment = deployments.get(role)
    if deployment is None or deployment.version_id != version.id:
        deployed = deployment.version_id if deployment else "nothing"
        raise ExperimentError(
            f"the {role} is {version.id}, but {deployed} is deployed as {role}: "
            f"run `immr deploy --model {version.id}`"
        )
    return version.id, deployment.url


def _save_begun(parts: Parts, begun: Experiment) -> Experiment:
    """Keep the rollback target as long as the champion is the version that replaced it."""
    if parts.settings.experiment_file.is_file():
        before = load(parts.settings.experiment_file)
        if before.champion.model_version == begun.champion.model_version:
            begun = replace(begun, previous=before.previous)
    save(begun, parts.settings.experiment_file)
    return begun


def _refuse_second_test(parts: Parts) -> None:
    if not parts.settings.experiment_file.is_file():
        return
    current = load(parts.settings.experiment_file)
    if rollback_incomplete(parts, current):
        raise ExperimentError(
            f"the rollback to {current.champion.model_version} is incomplete: run `immr experiment rollback` "
            "again to complete it"
        )
    if running_test(parts):
        raise ExperimentRunningError(
            f"experiment {current.name} is already running: ramp it, or run `immr experiment stop` first"
        )
