"""Who gets which variant: start, ramp, stop and decide, never two at once.

The experiment file is what the gateway follows; registry roles and deployments are brought into line with it.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from immr import steps, wiring
from immr.deploy.readiness import not_ready_because, served_at
from immr.errors import ExperimentError, ExperimentRunningError, ImmrError
from immr.experiment import changes
from immr.experiment.definition import Experiment, Kind, Variant, load, save
from immr.loop import watch as watching
from immr.packaging import bento
from immr.settings import Settings
from immr.storage.atomic import write_atomically
from immr.types import Role

if TYPE_CHECKING:
    from pathlib import Path

    from immr.deploy.deployer import Deployer, Deployment
    from immr.registry.versions import Registry

log = logging.getLogger(__name__)


def start(settings: Settings, weight: float = 0.5, kind: Kind = "ab") -> Experiment:
    """Compare the registry's challenger with its champion, where both are deployed.

    Without a challenger the champion serves all users. By `kind` the challenger's users get its answers, or
    both versions' interleaved.

    Raises:
        ExperimentError: a comparison runs already, or a version is not deployed.
    """
    with _alone(settings):
        _refuse_second(settings)
        champion, challenger = _deployed(settings)
        begun = changes.begin(champion, challenger, weight, datetime.now(UTC), kind)
        return _save_begun(settings, begun)


def ramp(settings: Settings, weight: float) -> Experiment:
    """Give the challenger a larger share of the users; the readout begins anew.

    Raises:
        ExperimentError: no comparison runs, or the share is not larger.
    """
    with _alone(settings):
        ramped = changes.ramp(load(settings.experiment_file), weight, datetime.now(UTC))
        save(ramped, settings.experiment_file)
        return ramped


def stop(settings: Settings) -> Experiment:
    """Send all users to the champion.

    Raises:
        ExperimentError: there is no experiment.
    """
    with _alone(settings):
        stopped = changes.stop(load(settings.experiment_file))
        save(stopped, settings.experiment_file)
        return stopped


def shadow(settings: Settings) -> Experiment:
    """Ask the registry's challenger what shoppers ask the champion, and show its answers to no one.

    Raises:
        ExperimentError: a comparison runs already, or a version is not deployed.
    """
    with _alone(settings):
        _refuse_second(settings)
        champion, challenger = _deployed(settings)
        if challenger is None:
            raise ExperimentError("there is no challenger to ask: package and deploy a version first")
        begun = changes.shadow(champion, challenger, datetime.now(UTC))
        return _save_begun(settings, begun)


def roll_back(settings: Settings) -> Experiment:
    """Give all users the champion before this one again; it has gone on serving since it was replaced.

    The file comes first: shoppers are rid of a bad version at once. Registry and deployment follow; where
    that was cut off, the next call does the rest of it, and does not roll back once more.

    Raises:
        ExperimentError: it is not known which one that was, it does not serve where it is said to, or
            registry or deployment could not follow.
    """
    with _alone(settings):
        experiment = load(settings.experiment_file)
        unfinished = _has_to_follow(settings, experiment)
        back = experiment if unfinished else _switch_back(settings, experiment)
        try:
            _follow(settings, back)
        except ImmrError as error:
            raise ExperimentError(
                f"all users get {back.champion.model_version} again, but registry and deployment did not "
                f"follow ({error}): see to that, then `immr experiment rollback` does the rest"
            ) from error
        _following(settings).unlink()
        return back


def _switch_back(settings: Settings, experiment: Experiment) -> Experiment:
    """All users get the champion before this one, and it is noted that registry and deployment follow."""
    back = changes.roll_back(experiment, datetime.now(UTC))
    version, url = back.champion.model_version, back.champion.url
    if reason := not_ready_because(url, version):
        serve = " and `immr serve` anew" if settings.deploy_url.startswith("local:") else ""
        raise ExperimentError(
            f"{version} at {url} cannot serve ({reason}), and {experiment.champion.model_version} goes on: "
            f"bring it up with `immr deploy --model {version} --bento {bento.NAME}:{version}`{serve}, "
            "then roll back"
        )
    write_atomically(_following(settings), back.salt)
    save(back, settings.experiment_file)
    return back


def _follow(settings: Settings, back: Experiment) -> None:
    """Bring registry, deployment and promotion log into line with the experiment file."""
    assert back.previous is not None, "it was rolled back from a version"
    champion, bad = back.champion.model_version, back.previous.model_version
    registry, deployer = wiring.registry(settings), wiring.deployer(settings)
    version = registry.get(champion)
    registry.set_role("champion", version)
    registry.clear_role("challenger")
    deployer.apply(version, f"{bento.NAME}:{champion}", "champion")
    deployer.remove("challenger")
    reason = f"{bad} was rolled back by hand: all users get {champion} again."
    registry.record_decision("roll back", reason, {}, champion=registry.get(bad), challenger=None)
    log.info("%s is the champion again", champion)


def _following(settings: Settings) -> Path:
    """There while registry and deployment follow a rollback: the salt of the experiment that they follow."""
    return settings.experiment_file.with_name("following")


def _has_to_follow(settings: Settings, experiment: Experiment) -> bool:
    note = _following(settings)
    return note.is_file() and note.read_text() == experiment.salt


def decide(settings: Settings, apply: bool = False, record_wait: bool = True) -> watching.Watched:
    """Read out, decide, write the decision to the promotion log, and act on it if asked to.

    A challenger that is promoted becomes the champion in registry, deployment and experiment file. One that
    is rolled back, or that the champion was kept against, gets no more users and loses role and place.
    A crash half-way is healed by the next call.

    Args:
        settings: Where things are.
        apply: Act; otherwise only the log is written.
        record_wait: Write down that there is nothing to do yet, too.

    Raises:
        ExperimentError: there is no experiment, or another process decides just now.
    """
    with _alone(settings):
        experiment = load(settings.experiment_file)
        if experiment.state != "running" or experiment.challenger is None:
            return _nothing_to_decide(settings)
        if not record_wait and (seen := watching.read_out(settings)).decision.action == "wait":
            return seen
        watched = steps.watch(settings)
        if apply and watched.decision.action == "promote":
            _promote(settings, experiment, experiment.challenger)
        elif apply and watched.decision.action in ("roll back", "keep"):
            _take_off(settings, experiment)
        return watched


def _nothing_to_decide(settings: Settings) -> watching.Watched:
    """The readout of what was, and no decision about what is over."""
    seen = watching.read_out(settings)
    reason = (
        "There is nothing to decide: no challenger gets users. `immr experiment start` begins a comparison."
    )
    return replace(seen, decision=replace(seen.decision, action="wait", reason=reason))


def _promote(settings: Settings, experiment: Experiment, challenger: Variant) -> None:
    """The file comes last: until then the next call decides the same again."""
    registry, deployer = wiring.registry(settings), wiring.deployer(settings)
    version = registry.get(challenger.model_version)
    if deployment := _deployment(deployer, challenger.model_version):
        deployer.apply(version, deployment.bento, "champion")
        deployer.remove("challenger")
    registry.set_role("champion", version)
    registry.clear_role("challenger")
    save(changes.promote(experiment, datetime.now(UTC)), settings.experiment_file)
    log.info("%s is the champion now", version.id)


def _take_off(settings: Settings, experiment: Experiment) -> None:
    """The file comes first: shoppers are rid of the challenger at once."""
    save(changes.stop(experiment), settings.experiment_file)
    wiring.registry(settings).clear_role("challenger")
    wiring.deployer(settings).remove("challenger")
    log.info("%s has stopped, all users get %s", experiment.name, experiment.champion.model_version)


def _deployment(deployer: Deployer, model_version: str) -> Deployment | None:
    return next((each for each in deployer.current() if each.version_id == model_version), None)


def _deployed(settings: Settings) -> tuple[tuple[str, str], tuple[str, str] | None]:
    """Model version and URL of the champion, and of the challenger if there is one."""
    registry = wiring.registry(settings)
    deployments = {each.role: each for each in wiring.deployer(settings).current()}
    champion = _serving(registry, deployments, "champion")
    if champion is None:
        raise ExperimentError("there is no champion to start with: train, package and deploy a version first")
    return champion, _serving(registry, deployments, "challenger")


def _serving(registry: Registry, deployments: dict[Role, Deployment], role: Role) -> tuple[str, str] | None:
    """Model version and URL of a role; None where no version plays it."""
    version = registry.role(role)
    if version is None:
        return None
    deployment = deployments.get(role)
    if deployment is None or deployment.version_id != version.id:
        there = deployment.version_id if deployment else "nothing"
        raise ExperimentError(
            f"the {role} is {version.id}, but {there} is deployed as {role}: "
            f"run `immr deploy --model {version.id}`"
        )
    found, _ = served_at(deployment.url)
    if found and found != version.id:
        raise ExperimentError(
            f"the {role} is {version.id}, but at {deployment.url} serves {found}: bring up what is deployed, "
            "on one machine with `immr serve` anew"
        )
    return version.id, deployment.url


def _save_begun(settings: Settings, begun: Experiment) -> Experiment:
    """With the version to roll back to, as long as the champion is the one that replaced it."""
    if settings.experiment_file.is_file():
        before = load(settings.experiment_file)
        if before.champion.model_version == begun.champion.model_version:
            begun = replace(begun, previous=before.previous)
    save(begun, settings.experiment_file)
    return begun


def _refuse_second(settings: Settings) -> None:
    if not settings.experiment_file.is_file():
        return
    running = load(settings.experiment_file)
    if _has_to_follow(settings, running):
        raise ExperimentError(
            f"registry and deployment do not say yet that {running.champion.model_version} is the champion "
            "again: `immr experiment rollback` does the rest of it"
        )
    if running.challenger is not None and running.state == "running":
        raise ExperimentRunningError(
            f"experiment {running.name} runs already: ramp it, or `immr experiment stop` before the next"
        )


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Hold the experiment's lock; it is let go with the process, however that ends.

    Raises:
        ExperimentError: another process holds it.
    """
    path = settings.experiment_file.with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ExperimentError(
                f"another process changes the experiment just now ({path} is held): try again in a moment"
            ) from error
        yield
