"""Decide: read out a running test, and promote the challenger, take it off, or wait."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from immr.experiment import changes
from immr.experiment.definition import CHALLENGER, Variant, load, save
from immr.loop.experiment.history import note, note_end
from immr.loop.experiment.queue import advance_locked
from immr.loop.experiment.running import exclusive
from immr.loop.watch import Watched, read_out, record
from immr.readout.guardrails import GuardrailPolicy
from immr.storage.atomic import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from immr.deploy.deployer import Deployer, Deployment
    from immr.wiring import Parts

log = logging.getLogger(__name__)


def decide(parts: Parts, apply: bool = False, record_wait: bool = True) -> Watched:
    """Read out, decide, write the decision to the promotion log, and apply it if `apply` is set.

    A promoted challenger becomes the champion in registry, deployment and experiment file. A challenger that is
    rolled back, or that lost to the champion, loses its users first, then its role and deployment, so a registry
    that is down does not keep it in front of shoppers. While it is too early to tell, a ramp whose step is over
    moves on. After a crash or an error half-way, the next call completes the work.

    Args:
        parts: The process's adapters.
        apply: Act on the decision, and start the next version of the queue if no test is running; otherwise
            only the log is written.
        record_wait: Whether a decision to wait is logged as well.

    Raises:
        ExperimentError: There is no experiment, or another process is changing it.
    """
    with exclusive(parts):
        experiment = load(parts.settings.experiment_file)
        if apply:
            _complete_take_off(parts)
        if experiment.state != "running" or experiment.challenger is None:
            watched = _nothing_to_decide(parts)
        else:
            watched = read_out(parts)
            _decide(parts, watched, experiment.challenger, apply, record_wait)
        if apply:
            advance_locked(parts)
        return watched


def _decide(parts: Parts, watched: Watched, challenger: Variant, apply: bool, record_wait: bool) -> None:
    action = watched.decision.action
    takes_off = apply and action in ("roll back", "keep")
    if takes_off:
        _stop(parts, watched)
    if record_wait or action != "wait":
        record(parts, watched)
    if takes_off:
        _complete_take_off(parts)
    elif apply and action == "promote":
        _promote(parts, watched, challenger)
    elif apply:
        _move_on(parts, watched)


def _move_on(parts: Parts, watched: Watched) -> None:
    """Take the next step of a ramp, once enough of the challenger's users have passed the guardrails."""
    experiment = watched.experiment
    share = changes.due_share(experiment, datetime.now(UTC))
    if share is None:
        return
    seen = next((each.users for each in watched.readout.health if each.variant == CHALLENGER), 0)
    if seen < GuardrailPolicy().min_users:
        log.info("the ramp of %s waits: %d users of the challenger are too few", experiment.name, seen)
        return
    ramped = changes.ramp(experiment, share, datetime.now(UTC))
    save(ramped, parts.settings.experiment_file)
    note(parts, ramped, "ramped", "Guardrails held.")
    log.info("the challenger of %s now has %.4g %% of the users", experiment.name, 100 * share)


def _nothing_to_decide(parts: Parts) -> Watched:
    watched = read_out(parts)
    reason = (
        "There is nothing to decide: no challenger gets users. Start a test with `immr experiment start`."
    )
    return replace(watched, decision=replace(watched.decision, action="wait", reason=reason))


def _promote(parts: Parts, watched: Watched, challenger: Variant) -> None:
    """The experiment file changes last: after a crash, the next call makes the same decision again."""
    registry, deployer = parts.registry, parts.deployer
    version = registry.get(challenger.model_version)
    if deployment := _deployment(deployer, challenger.model_version):
        deployer.apply(version, deployment.bento, "champion")
        deployer.remove("challenger")
    registry.set_role("champion", version)
    registry.clear_role("challenger")
    note_end(parts, watched, "promoted")
    save(changes.promote(watched.experiment, datetime.now(UTC)), parts.settings.experiment_file)
    log.info("%s is now the champion", version.id)


def _stop(parts: Parts, watched: Watched) -> None:
    """Send all users to the champion, with a marker that registry and deployment have yet to be changed."""
    experiment = watched.experiment
    write_atomically(_take_off_marker(parts), experiment.salt)
    save(changes.stop(experiment), parts.settings.experiment_file)
    note_end(parts, watched, "kept" if watched.decision.action == "keep" else "rolled back")
    log.info("%s has ended; all users get %s", experiment.name, experiment.champion.model_version)


def _complete_take_off(parts: Parts) -> None:
    """Take role and deployment from a challenger that has lost its users; nothing without a marker."""
    marker = _take_off_marker(parts)
    if not marker.is_file():
        return
    stopped = load(parts.settings.experiment_file)
    if stopped.state == "stopped" and stopped.challenger and marker.read_text() == stopped.salt:
        lost = stopped.challenger.model_version  # after a crash, another version may be deployed by now
        if (holder := parts.registry.role("challenger")) is not None and holder.id == lost:
            parts.registry.clear_role("challenger")
        if (deployed := _deployment(parts.deployer, lost)) is not None and deployed.role == "challenger":
            parts.deployer.remove("challenger")
    marker.unlink()


def _take_off_marker(parts: Parts) -> Path:
    """A file that exists until a challenger is taken off; it contains the salt of its experiment."""
    return parts.settings.experiment_file.with_name("taking-off")


def _deployment(deployer: Deployer, model_version: str) -> Deployment | None:
    return next((each for each in deployer.current() if each.version_id == model_version), None)
