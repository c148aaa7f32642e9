"""Roll back: send all users to the previous champion at once."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from immr.alerts.alert import Alert
from immr.deploy.readiness import not_ready_because
from immr.errors import ExperimentError, ImmrError
from immr.experiment import changes
from immr.experiment.definition import CHAMPION, Experiment
from immr.experiment.file import load
from immr.experiment.queue import hold
from immr.loop.experiment.apply_verdict import complete_verdicts
from immr.loop.experiment.history import rollback_events
from immr.loop.experiment.running_test import exclusive
from immr.loop.experiment.save_change import events_of, save_change
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
        try:
            complete_verdicts(parts)
        except ImmrError as error:  # users must leave a bad version even if the registry is down
            log.warning("the last decision is not carried out everywhere yet: %s", error)
        experiment = load(parts.settings.experiment_file)
        back = experiment if rollback_incomplete(parts, experiment) else _switch_back(parts, experiment)
        complete_rollback(parts, back)
        return back


def complete_rollback(parts: Parts, experiment: Experiment) -> None:
    """Make registry and deployment follow a rollback that was interrupted; does nothing if none was.

    Raises:
        ExperimentError: Registry or deployment could not be changed.
    """
    if not rollback_incomplete(parts, experiment):
        rollback_marker(parts).unlink(missing_ok=True)  # of a rollback whose experiment was never saved
        return
    try:
        _follow(parts, experiment)
    except ImmrError as error:
        raise ExperimentError(
            f"all users get {experiment.champion.model_version} again, but registry and deployment were not "
            f"updated ({error}): fix that, then run `immr experiment rollback` to complete it"
        ) from error
    rollback_marker(parts).unlink()


def _switch_back(parts: Parts, experiment: Experiment) -> Experiment:
    """Write the experiment file, and a marker that registry and deployment have yet to be changed."""
    now = datetime.now(UTC)
    back = changes.roll_back(experiment, now)
    version, url = back.champion.model_version, back.champion.url
    home_id = parts.settings.home_id if parts.settings.deploys_here else ""
    if reason := not_ready_because(url, version, home_id=home_id):
        serve = ", start `immr serve`" if parts.settings.deploys_here else ""
        raise ExperimentError(
            f"{version} at {url} cannot serve ({reason}), so {experiment.champion.model_version} stays: run "
            f"`immr deploy --model {version}`{serve}, then roll back again"
        )
    write_atomically(rollback_marker(parts), back.salt)
    hold(
        parts.settings.queue_file,
        f"held since the rollback to {version}: run `immr experiment queue --resume` once the cause is fixed",
    )
    bad, events, ended = experiment.champion.model_version, [], None
    if experiment.state == "running" and experiment.challengers:
        events = events_of(experiment, "rolled back", f"All users get {version} again, by hand.")
        ended = changes.stop(experiment, now)
    text = f"All users get {version} again."
    alert = Alert(f"{bad} was rolled back by hand", text, parts.settings.page_link)
    events += rollback_events(parts, bad, version)
    save_change(parts, back, events, alerts=[alert], ended=ended)
    return back


def _follow(parts: Parts, back: Experiment) -> None:
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
    if not _is_recorded(parts, back, reason):
        registry.record_decision("roll back", reason, {}, champion=registry.get(bad), challenger=None)
    log.info("%s is the champion again", champion)


def _is_recorded(parts: Parts, back: Experiment, reason: str) -> bool:
    """Whether the promotion log has this rollback, because the process was killed right after it wrote it."""
    last = next(reversed(parts.registry.decisions()), None)
    if last is None or last["reason"] != reason or back.started is None:
        return False
    return datetime.fromisoformat(last["ts"]) >= back.started


def rollback_marker(parts: Parts) -> Path:
    """A file that exists until a rollback is complete; it contains the salt of that experiment."""
    return parts.settings.experiment_file.with_name("following")


def rollback_incomplete(parts: Parts, experiment: Experiment) -> bool:
    """Whether this experiment is a rollback that registry and deployment do not match yet."""
    marker = rollback_marker(parts)
    return marker.is_file() and marker.read_text() == experiment.salt
