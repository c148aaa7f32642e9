"""Decide: read out a running test, then promote a challenger, remove those that lost, or wait."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from immr.alerts.alert import Alert
from immr.experiment import changes
from immr.experiment.definition import Experiment, Variant, load
from immr.experiment.waiting import load_queue
from immr.loop.experiment.history import keep_report
from immr.loop.experiment.noting import events_of, notes_marker, save_noted
from immr.loop.experiment.queue import advance_locked
from immr.loop.experiment.rollback import complete_rollback, rollback_marker
from immr.loop.experiment.running import exclusive
from immr.loop.watch import Watched, read_out, record, record_verdict
from immr.readout.decision import Decision, Verdict
from immr.readout.guardrails import GuardrailPolicy
from immr.registry.reports import ab_test_link
from immr.storage.atomic import write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from immr.deploy.deployer import Deployer, Deployment
    from immr.experiment.history import Happening, TestEvent
    from immr.types import Role
    from immr.wiring import Parts

log = logging.getLogger(__name__)


def decide(parts: Parts, apply: bool = False, record_wait: bool = True, revision: str = "") -> Watched:
    """Read out, decide, write the decision to the promotion log, and apply it if `apply` is set.

    A promoted challenger becomes the champion in registry, deployment and experiment file, and the test ends. A
    challenger that is rolled back, or that lost to the champion, loses its users first, then its role and deployment,
    so shoppers stop seeing it even if the registry is down; the test continues with the others. While it is too
    early to tell, a ramp takes its next step when due. After a crash or an error half-way, the next call completes
    the work.

    Args:
        parts: The process's adapters.
        apply: Act on the decision, and start the next version of the queue if no test is running; otherwise
            only the log is written.
        record_wait: Whether a decision to wait is logged as well.
        revision: The experiment that is meant; empty for any.

    Raises:
        ExperimentError: There is no experiment, it has another revision, or another process is changing it.
    """
    with exclusive(parts, revision=revision):
        experiment = load(parts.settings.experiment_file)
        if apply:
            _complete(parts, experiment)
        if experiment.state != "running" or not experiment.challengers:
            watched = _nothing_to_decide(parts)
        else:
            watched = _decide(parts, read_out(parts), apply, record_wait)
        if apply:
            advance_locked(parts)
        return watched


def complete_interrupted(parts: Parts) -> None:
    """Complete a decision or a rollback whose process was killed; does nothing if there is none.

    Raises:
        ExperimentError: Another process is changing the experiment, or registry or deployment could not be changed.
    """
    markers = (notes_marker(parts), rollback_marker(parts), _take_off_marker(parts))
    if any(marker.is_file() for marker in markers):
        with exclusive(parts):
            _complete(parts, load(parts.settings.experiment_file))


def _complete(parts: Parts, experiment: Experiment) -> None:
    _complete_take_off(parts)
    complete_rollback(parts, experiment)


def _decide(parts: Parts, watched: Watched, apply: bool, record_wait: bool) -> Watched:
    decision = watched.decision
    if apply and decision.losers:
        _end_losers(parts, watched)
        return watched
    if apply and (begun := _begun_promotion(parts, watched.experiment)):
        watched = replace(watched, decision=begun)
        _promote(parts, watched, watched.experiment.variant(begun.verdicts[0].challenger))
        return watched
    if not apply:
        for verdict in (decision.winner, *decision.losers):
            if verdict and not _records(parts, watched.experiment, verdict):
                _announce(parts, watched.experiment, verdict, applied=False)
    if record_wait or decision.action != "wait" or decision.losers:
        record(parts, watched, apply)
    if apply and decision.winner:
        _promote(parts, watched, watched.experiment.variant(decision.winner.challenger))
    elif apply:
        _move_on(parts, watched)
    return watched


def _begun_promotion(parts: Parts, experiment: Experiment) -> Decision | None:
    """The promotion that is in the log and made its version champion of the registry, but did not end the test."""
    logged = [each for each in parts.registry.decisions() if each["experiment"] == experiment.name]
    last = next(reversed(logged), None)
    if last is None or last["action"] != "promote" or not last.get("applied", True):
        return None
    champion = parts.registry.role("champion")
    for each in experiment.remaining:
        if champion is not None and champion.id == each.model_version == last["challenger"]:
            verdict = Verdict(each.name, "promote", last["reason"])
            return Decision("promote", last["reason"], last["numbers"], (verdict,))
    return None


def _move_on(parts: Parts, watched: Watched) -> None:
    """Take the next step of a ramp, once enough of the challengers' users have passed the guardrails."""
    experiment = watched.experiment
    share = changes.due_share(experiment, datetime.now(UTC))
    if share is None:
        return
    users = {each.variant: each.users for each in watched.readout.health}
    fewest = min(users.get(each.name, 0) for each in experiment.remaining)
    if fewest < GuardrailPolicy().min_users:
        log.info("the ramp of %s waits: %d users of a challenger are too few", experiment.name, fewest)
        return
    ramped = changes.ramp(experiment, share, datetime.now(UTC))
    save_noted(parts, ramped, events_of(ramped, "ramped", "Guardrails held."))
    log.info("each challenger of %s now has %.4g %% of the users", experiment.name, 100 * share)


def _nothing_to_decide(parts: Parts) -> Watched:
    watched = read_out(parts)
    queue = load_queue(parts.settings.queue_file)
    reason = "There is nothing to decide: no challenger gets users."
    if not queue.versions or queue.held:
        reason += " Start a test with `immr experiment start`."
    return replace(watched, decision=replace(watched.decision, action="wait", reason=reason))


def _promote(parts: Parts, watched: Watched, winner: Variant) -> None:
    """After a crash before the experiment file changes, the next call promotes again, see `_begun_promotion`."""
    registry, deployer = parts.registry, parts.deployer
    experiment, decision = watched.experiment, watched.decision
    version = registry.get(winner.model_version)
    if deployment := _deployment(deployer, winner.model_version):
        deployer.apply(version, deployment.bento, "champion")
    link = ab_test_link(parts.settings, experiment.name)
    registry.set_role("champion", version, decision.reason, link)
    events = events_of(experiment, "promoted", decision.reason, decision.numbers, (winner,))
    keep_report(parts, watched, events)
    promoted = changes.promote(experiment, datetime.now(UTC), winner.name)
    _save_without(parts, promoted, experiment.challengers, events)
    if decision.winner:
        _announce(parts, experiment, decision.winner, applied=True)
    _complete_take_off(parts)
    log.info("%s is now the champion", version.id)


def _end_losers(parts: Parts, watched: Watched) -> None:
    """Send the losers' users to the champion, then remove the losers."""
    experiment, decision = watched.experiment, watched.decision
    losers = [experiment.variant(each.challenger) for each in decision.losers]
    after = changes.end(experiment, [each.name for each in losers])
    if after.state == "stopped":
        what: Happening = "kept" if decision.action == "keep" else "rolled back"
        events = events_of(experiment, what, decision.reason, decision.numbers)
    else:
        events = [
            event
            for verdict, loser in zip(decision.losers, losers, strict=True)
            for event in events_of(experiment, "ended", verdict.reason, decision.numbers, (loser,))
        ]
    _save_without(parts, after, losers, events, decision)
    for verdict in decision.losers:
        _announce(parts, experiment, verdict, applied=True)
    if after.state == "stopped":
        keep_report(parts, watched, events)
        log.info("%s has ended; all users get %s", experiment.name, experiment.champion.model_version)
    else:
        for loser in losers:
            log.info("%s has left %s", loser.model_version, experiment.name)
    _complete_take_off(parts)


def _save_without(
    parts: Parts,
    after: Experiment,
    leaving: Sequence[Variant],
    events: Sequence[TestEvent],
    decision: Decision | None = None,
) -> None:
    """Save an experiment, with a marker that lists the challengers still to be removed."""
    left = {
        "salt": after.salt,
        "leaving": [(each.name, each.model_version) for each in leaving],
        "verdicts": [asdict(each) for each in decision.losers] if decision else [],
        "numbers": dict(decision.numbers) if decision else {},
    }
    write_atomically(_take_off_marker(parts), json.dumps(left))
    save_noted(parts, after, events)


def _complete_take_off(parts: Parts) -> None:
    """Record the losers' verdicts, and remove their roles and deployments; does nothing without a marker."""
    marker = _take_off_marker(parts)
    if not marker.is_file():
        return
    left, experiment = json.loads(marker.read_text()), load(parts.settings.experiment_file)
    leaving = {(role, version) for role, version in left["leaving"]}
    tested = {(each.name, each.model_version) for each in experiment.remaining}
    is_saved = experiment.salt == left["salt"] and (experiment.state == "stopped" or not tested & leaving)
    if is_saved:  # else the process ended in between, or another test has begun
        for verdict in (Verdict(**each) for each in left["verdicts"]):
            if not any(each.get("applied", True) for each in _records(parts, experiment, verdict)):
                record_verdict(parts, experiment, verdict, left["numbers"], applied=True)
        for role, version in sorted(leaving):
            _take_off(parts, role, version)
    marker.unlink()


def _announce(parts: Parts, experiment: Experiment, verdict: Verdict, applied: bool) -> None:
    """Send an alert about a verdict."""
    version = experiment.variant(verdict.challenger).model_version
    done = {"promote": "is the new champion", "keep": "has lost its test", "roll back": "was rolled back"}
    title = f"{version} {done[verdict.action]}" if applied else f"{version}: decided to {verdict.action}"
    todo = "" if applied else " `immr experiment decide --apply` carries it out."
    parts.alerts.send(
        Alert(title, f"{verdict.reason}{todo} Test {experiment.name}.", parts.settings.page_link)
    )


def _records(parts: Parts, experiment: Experiment, verdict: Verdict) -> list[dict[str, Any]]:
    """The entries of the promotion log with this verdict on this challenger."""
    version = experiment.variant(verdict.challenger).model_version
    wanted = (experiment.name, version, verdict.action)
    entries = parts.registry.decisions()
    return [each for each in entries if wanted == (each["experiment"], each["challenger"], each["action"])]


def _take_off(parts: Parts, role: Role, version: str) -> None:
    """Remove role and deployment if this version still has them; after a crash, another one may."""
    if (holder := parts.registry.role(role)) is not None and holder.id == version:
        parts.registry.clear_role(role)
    if any((each.role, each.version_id) == (role, version) for each in parts.deployer.current()):
        parts.deployer.remove(role)


def _take_off_marker(parts: Parts) -> Path:
    """A file that names the challengers still to be removed; deleted once they are."""
    return parts.settings.experiment_file.with_name("taking-off")


def _deployment(deployer: Deployer, model_version: str) -> Deployment | None:
    return next((each for each in deployer.current() if each.version_id == model_version), None)
