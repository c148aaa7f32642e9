"""Decide: read a running test out, and promote the challenger, take it off, or wait."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from immr.experiment import changes
from immr.experiment.definition import CHALLENGER, Experiment, Variant, load, save
from immr.loop.experiment.history import note, note_end
from immr.loop.experiment.queue import advance_locked
from immr.loop.experiment.running import exclusive
from immr.loop.watch import Watched, read_out, record
from immr.readout.guardrails import GuardrailPolicy

if TYPE_CHECKING:
    from immr.deploy.deployer import Deployer, Deployment
    from immr.wiring import Parts

log = logging.getLogger(__name__)


def decide(parts: Parts, apply: bool = False, record_wait: bool = True) -> Watched:
    """Read out, decide, write the decision to the promotion log, and apply it if `apply` is set.

    A promoted challenger becomes the champion in registry, deployment and experiment file. A challenger that is
    rolled back, or that lost to the champion, loses its users, role and deployment. While it is too early to
    tell, a ramp whose step is over moves on. After a crash half-way, the next call completes the work.

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
        watched = read_out(parts)
        if record_wait or watched.decision.action != "wait":
            record(parts, watched)
        if apply and watched.decision.action == "promote":
            _promote(parts, experiment, experiment.challenger)
            note_end(parts, watched, "promoted")
        elif apply and watched.decision.action in ("roll back", "keep"):
            _take_off(parts, experiment)
            note_end(parts, watched, "kept" if watched.decision.action == "keep" else "rolled back")
        elif apply:
            _move_on(parts, experiment, watched)
        if apply:
            advance_locked(parts)
        return watched


def _move_on(parts: Parts, experiment: Experiment, watched: Watched) -> None:
    """Take the next step of a ramp, once enough of the challenger's users have passed the guardrails."""
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
