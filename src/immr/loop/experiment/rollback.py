"""Roll back: send all users to the previous champion at once."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from immr.alerts.alert import Alert
from immr.deploy.readiness import not_ready_because
from immr.errors import ExperimentError, ImmrError
from immr.experiment import changes
from immr.experiment.definition import CHAMPION, Experiment, load, save
from immr.experiment.waiting import hold
from immr.loop.experiment.history import note, note_rollback
from immr.loop.experiment.running import exclusive
from immr.packaging import bento
from immr.storage.atomic import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from immr.wiring import Parts

log = logging.getLogger(__name__)


def roll_back(parts: Parts, revision: str = "") -> Experiment:
    """Send all users to the previous champion, which has kept serving since it was replaced.

    The experiment file changes first, so that shoppers leave the bad version at once; then registry and
    deployment change. If that is interrupted, the next call completes it instead of rolling back once more.

    Raises:
        ExperimentError: The previous champion is unknown or does not serve at its address, registry or
            deployment could not be changed, or the experiment has another `revision`.
    """
    with exclusive(parts, revision=revision):
        experiment = load(parts.settings.experiment_file)
        back = experiment if rollback_incomplete(parts, experiment) else _switch_back(parts, experiment)
        try:
            _complete_rollback(parts, back)
        except ImmrError as error:
            raise ExperimentError(
                f"all users get {back.champion.model_version} again, but registry and deployment were not "
                f"updated ({error}): fix that, then run `immr experiment rollback` to complete it"
            ) from error
        _rollback_marker(parts).unlink()
        return back


def _switch_back(parts: Parts, experiment: Experiment) -> Experiment:
    """Write the experiment file, and a marker that registry and deployment have yet to be changed."""
    back = changes.roll_back(experiment, datetime.now(UTC))
    version, url = back.champion.model_version, back.champion.url
    home_id = parts.settings.home_id if parts.settings.deploys_here else ""
    if reason := not_ready_because(url, version, home_id=home_id):
        serve = ", start `immr serve`" if parts.settings.deploys_here else ""
        raise ExperimentError(
            f"{version} at {url} cannot serve ({reason}), so {experiment.champion.model_version} stays: run "
            f"`immr deploy --model {version}`{serve}, then roll back again"
        )
    write_atomically(_rollback_marker(parts), back.salt)
    hold(
        parts.settings.queue_file,
        f"held since the rollback to {version}: run `immr experiment queue --resume` once the cause is fixed",
    )
    save(back, parts.settings.experiment_file)
    if experiment.state == "running":
        note(parts, experiment, "rolled back", f"All users get {version} again, by hand.")
    bad = experiment.champion.model_version
    note_rollback(parts, bad, version)
    parts.alerts.send(
        Alert(f"{bad} was rolled back by hand", f"All users get {version} again.", parts.settings.page_link)
    )
    return back


def _complete_rollback(parts: Parts, back: Experiment) -> None:
    """Make registry, deployment and promotion log match the experiment file."""
    assert back.previous is not None, "a rollback always has a previous version"
    champion, bad = back.champion.model_version, back.previous.model_version
    registry, deployer = parts.registry, parts.deployer
    version = registry.get(champion)
    reason = f"{bad} was rolled back by hand: all users get {champion} again."
    registry.set_role("champion", version, reason)
    for role in registry.roles():
        if role != CHAMPION:
            registry.clear_role(role)
    deployer.apply(version, bento.tag_of(champion), "champion")
    for deployment in deployer.current():
        if deployment.role != CHAMPION:
            deployer.remove(deployment.role)
    registry.record_decision("roll back", reason, {}, champion=registry.get(bad), challenger=None)
    log.info("%s is the champion again", champion)


def _rollback_marker(parts: Parts) -> Path:
    """A file that exists until a rollback is complete; it contains the salt of that experiment."""
    return parts.settings.experiment_file.with_name("following")


def rollback_incomplete(parts: Parts, experiment: Experiment) -> bool:
    """Whether this experiment is a rollback that registry and deployment do not match yet."""
    marker = _rollback_marker(parts)
    return marker.is_file() and marker.read_text() == experiment.salt
