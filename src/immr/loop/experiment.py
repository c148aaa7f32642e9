"""Experiment: start, ramp, stop, decide and roll back an A/B test, one process at a time.

The gateway follows the experiment file. Registry roles and deployments are then changed to match it.
"""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from immr.deploy.readiness import not_ready_because, served_at
from immr.errors import ExperimentError, ExperimentRunningError, ImmrError
from immr.experiment import changes
from immr.experiment.definition import Experiment, Kind, Variant, load, save
from immr.loop.watch import Watched, planned_users, read_out, watch
from immr.packaging import bento
from immr.storage.atomic import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from immr.deploy.deployer import Deployer, Deployment
    from immr.registry.registry import Registry
    from immr.types import Role
    from immr.wiring import Parts

log = logging.getLogger(__name__)

LOCK_TIMEOUT_S = 2.0


def start(parts: Parts, weight: float = 0.5, kind: Kind = "ab") -> Experiment:
    """Compare the registry's challenger with its champion; both must be deployed and answering.

    Without a challenger the champion serves all users.

    Args:
        parts: The process's adapters.
        weight: The challenger's share of the users, between 0 and 1.
        kind: "ab": these users get the challenger's results. "interleave": they get both versions' items in one
            list of results.

    Raises:
        ExperimentError: A test is already running, or a version is not deployed or does not answer.
    """
    with exclusive(parts):
        _refuse_second_test(parts)
        champion, challenger = _deployed(parts)
        changes.check_weight(weight)
        planned = planned_users(parts, champion, weight) if challenger and kind == "ab" else None
        begun = changes.begin(champion, challenger, weight, datetime.now(UTC), kind, planned)
        return _save_begun(parts, begun)


def ramp(parts: Parts, weight: float) -> Experiment:
    """Give the challenger a larger share of the users; the readout starts over.

    Raises:
        ExperimentError: No test is running, or the share is not larger than before.
    """
    with exclusive(parts):
        ramped = changes.ramp(load(parts.settings.experiment_file), weight, datetime.now(UTC))
        save(ramped, parts.settings.experiment_file)
        return ramped


def stop(parts: Parts) -> Experiment:
    """Send all users to the champion.

    Raises:
        ExperimentError: There is no experiment.
    """
    with exclusive(parts):
        stopped = changes.stop(load(parts.settings.experiment_file))
        save(stopped, parts.settings.experiment_file)
        return stopped


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
        begun = changes.shadow(champion, challenger, datetime.now(UTC))
        return _save_begun(parts, begun)


def roll_back(parts: Parts) -> Experiment:
    """Send all users to the previous champion, which has kept serving since it was replaced.

    The experiment file changes first, so that shoppers leave the bad version at once; then registry and
    deployment change. If that is interrupted, the next call completes it instead of rolling back once more.

    Raises:
        ExperimentError: The previous champion is unknown or does not serve at its address, or registry or
            deployment could not be changed.
    """
    with exclusive(parts):
        experiment = load(parts.settings.experiment_file)
        back = experiment if _rollback_incomplete(parts, experiment) else _switch_back(parts, experiment)
        try:
            _complete_rollback(parts, back)
        except ImmrError as error:
            raise ExperimentError(
                f"all users get {back.champion.model_version} again, but registry and deployment were not "
                f"updated ({error}): fix that, then run `immr experiment rollback` to complete it"
            ) from error
        _rollback_marker(parts).unlink()
        return back


def decide(parts: Parts, apply: bool = False, record_wait: bool = True) -> Watched:
    """Read out, decide, write the decision to the promotion log, and apply it if `apply` is set.

    A promoted challenger becomes the champion in registry, deployment and experiment file. A challenger that is
    rolled back, or that lost to the champion, loses its users, role and deployment. After a crash half-way,
    the next call completes the work.

    Args:
        parts: The process's adapters.
        apply: Act on the decision; otherwise only the log is written.
        record_wait: Whether a decision to wait is logged as well.

    Raises:
        ExperimentError: There is no experiment, or another process is changing it.
    """
    with exclusive(parts):
        experiment = load(parts.settings.experiment_file)
        if experiment.state != "running" or experiment.challenger is None:
            return _nothing_to_decide(parts)
        if not record_wait and (watched := read_out(parts)).decision.action == "wait":
            return watched
        watched = watch(parts)
        if apply and watched.decision.action == "promote":
            _promote(parts, experiment, experiment.challenger)
        elif apply and watched.decision.action in ("roll back", "keep"):
            _take_off(parts, experiment)
        return watched


def running_test(parts: Parts) -> Experiment | None:
    """The current experiment if it is comparing two versions, else None."""
    file = parts.settings.experiment_file
    if not file.is_file():
        return None
    experiment = load(file)
    compares = experiment.state == "running" and experiment.challenger is not None
    return experiment if compares else None


@contextmanager
def exclusive(parts: Parts, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Hold the experiment's lock during the block; the kernel releases it when the process ends.

    Raises:
        ExperimentError: Another process has held it for `timeout_s`.
    """
    path = parts.settings.experiment_file.with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_s
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise ExperimentError(
                        f"another process is changing the experiment ({path} is locked): try again in a moment"
                    ) from error
                time.sleep(0.05)
        yield


def _switch_back(parts: Parts, experiment: Experiment) -> Experiment:
    """Write the experiment file, and a marker that registry and deployment have yet to be changed."""
    back = changes.roll_back(experiment, datetime.now(UTC))
    version, url = back.champion.model_version, back.champion.url
    if reason := not_ready_because(url, version):
        serve = ", restart `immr serve`" if parts.settings.deploy_url.startswith("local:") else ""
        raise ExperimentError(
            f"{version} at {url} cannot serve ({reason}), so {experiment.champion.model_version} stays: run "
            f"`immr deploy --model {version} --bento {bento.NAME}:{version}`{serve}, then roll back again"
        )
    write_atomically(_rollback_marker(parts), back.salt)
    save(back, parts.settings.experiment_file)
    return back


def _complete_rollback(parts: Parts, back: Experiment) -> None:
    """Make registry, deployment and promotion log match the experiment file."""
    assert back.previous is not None, "a rollback always has a previous version"
    champion, bad = back.champion.model_version, back.previous.model_version
    registry, deployer = parts.registry, parts.deployer
    version = registry.get(champion)
    registry.set_role("champion", version)
    registry.clear_role("challenger")
    deployer.apply(version, f"{bento.NAME}:{champion}", "champion")
    deployer.remove("challenger")
    reason = f"{bad} was rolled back by hand: all users get {champion} again."
    registry.record_decision("roll back", reason, {}, champion=registry.get(bad), challenger=None)
    log.info("%s is the champion again", champion)


def _rollback_marker(parts: Parts) -> Path:
    """A file that exists until a rollback is complete; it contains the salt of that experiment."""
    return parts.settings.experiment_file.with_name("following")


def _rollback_incomplete(parts: Parts, experiment: Experiment) -> bool:
    marker = _rollback_marker(parts)
    return marker.is_file() and marker.read_text() == experiment.salt


def _nothing_to_decide(parts: Parts) -> Watched:
    watched = read_out(parts)
    reason = (
        "There is nothing to decide: no challenger gets users. Start a test with `immr experiment start`."
    )
    return replace(watched, decision=replace(watched.decision, action="wait", reason=reason))


def _promote(parts: Parts, experiment: Experiment, challenger: Variant) -> None:
    """The experiment file changes last: after a crash, the next call makes the same decision again."""
    registry, deployer = parts.registry, parts.deployer
    version = registry.get(challenger.model_version)
    if deployment := _deployment(deployer, challenger.model_version):
        deployer.apply(version, deployment.bento, "champion")
        deployer.remove("challenger")
    registry.set_role("champion", version)
    registry.clear_role("challenger")
    save(changes.promote(experiment, datetime.now(UTC)), parts.settings.experiment_file)
    log.info("%s is now the champion", version.id)


def _take_off(parts: Parts, experiment: Experiment) -> None:
    """The experiment file changes first: shoppers leave the challenger at once."""
    save(changes.stop(experiment), parts.settings.experiment_file)
    parts.registry.clear_role("challenger")
    parts.deployer.remove("challenger")
    log.info("%s has ended; all users get %s", experiment.name, experiment.champion.model_version)


def _deployment(deployer: Deployer, model_version: str) -> Deployment | None:
    return next((each for each in deployer.current() if each.version_id == model_version), None)


def _deployed(parts: Parts) -> tuple[tuple[str, str], tuple[str, str] | None]:
    """Model version and URL of the champion, and of the challenger if there is one."""
    deployments = {each.role: each for each in parts.deployer.current()}
    champion = _serving(parts.registry, deployments, "champion")
    if champion is None:
        raise ExperimentError("there is no champion to start with: train, package and deploy a version first")
    return champion, _serving(parts.registry, deployments, "challenger")


def _serving(registry: Registry, deployments: dict[Role, Deployment], role: Role) -> tuple[str, str] | None:
    """Model version and URL of a role; None if no version has it."""
    version = registry.role(role)
    if version is None:
        return None
    deployment = deployments.get(role)
    if deployment is None or deployment.version_id != version.id:
        deployed = deployment.version_id if deployment else "nothing"
        raise ExperimentError(
            f"the {role} is {version.id}, but {deployed} is deployed as {role}: "
            f"run `immr deploy --model {version.id}`"
        )
    serving, _ = served_at(deployment.url)
    if serving and serving != version.id:
        raise ExperimentError(
            f"the {role} is {version.id}, but {serving} serves at {deployment.url}: start what is deployed "
            "(on one machine, restart `immr serve`)"
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
    if _rollback_incomplete(parts, current):
        raise ExperimentError(
            f"the rollback to {current.champion.model_version} is incomplete: run `immr experiment rollback` "
            "again to complete it"
        )
    if running_test(parts):
        raise ExperimentRunningError(
            f"experiment {current.name} is already running: ramp it, or run `immr experiment stop` first"
        )
