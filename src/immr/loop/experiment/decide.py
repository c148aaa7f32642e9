"""Decide: read out a running test, then promote a challenger, remove those that lost, or wait."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from immr.experiment import changes
from immr.experiment.definition import Experiment
from immr.experiment.file import load
from immr.experiment.queue import load_queue
from immr.loop.experiment.apply_verdict import alert_of, apply_verdicts, records
from immr.loop.experiment.queue import advance_locked
from immr.loop.experiment.recovery import complete
from immr.loop.experiment.running_test import exclusive
from immr.loop.experiment.save_change import events_of, save_change
from immr.loop.watch import Watched, read_out, record
from immr.readout.guardrails import GuardrailPolicy

if TYPE_CHECKING:
    from immr.experiment.history import Happening
    from immr.readout.decision import Verdict
    from immr.wiring import Parts

log = logging.getLogger(__name__)


def decide(parts: Parts, apply: bool = False, record_wait: bool = True, revision: str = "") -> Watched:
    """Read out, decide, write the decision to the promotion log, and apply it if `apply` is set.

    A promoted challenger gets all users, then becomes the champion in registry and deployment; the test ends. A
    challenger that is rolled back, or that lost to the champion, loses its users first, then its role and deployment;
    the test continues with the others. So shoppers leave a bad version even if the registry is down. While it is too
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
        if apply:
            complete(parts)
        experiment = load(parts.settings.experiment_file)
        if experiment.state != "running" or not experiment.challengers:
            watched = _nothing_to_decide(parts)
        else:
            watched = _decide(parts, read_out(parts), apply, record_wait)
        if apply:
            advance_locked(parts)
    parts.alerts.resume()
    return watched


def _decide(parts: Parts, watched: Watched, apply: bool, record_wait: bool) -> Watched:
    experiment, decision = watched.experiment, watched.decision
    if apply and decision.winner:
        _promote(parts, watched, decision.winner)
        return watched
    if apply and decision.losers:
        _end_losers(parts, watched)
        return watched
    for verdict in (decision.winner, *decision.losers):
        if verdict and not records(parts, experiment.name, _version(experiment, verdict), verdict.action):
            parts.alerts.send(alert_of(parts, experiment, verdict, applied=False))
    if record_wait or decision.action != "wait" or decision.losers:
        record(parts, watched, apply)
    if apply:
        _move_on(parts, watched)
    return watched


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
    save_change(parts, ramped, events_of(ramped, "ramped", "Guardrails held."))
    log.info("each challenger of %s now has %.4g %% of the users", experiment.name, 100 * share)


def _nothing_to_decide(parts: Parts) -> Watched:
    watched = read_out(parts)
    queue = load_queue(parts.settings.queue_file)
    reason = "There is nothing to decide: no challenger gets users."
    if not queue.versions or queue.held:
        reason += " Start a test with `immr experiment start`."
    return replace(watched, decision=replace(watched.decision, action="wait", reason=reason))


def _promote(parts: Parts, watched: Watched, verdict: Verdict) -> None:
    """Give all users the winner, then make it the champion everywhere, and remove the others."""
    # a process that may not deploy, such as the page's pod, must not change the experiment
    _ = parts.deployer
    experiment = watched.experiment
    winner = experiment.variant(verdict.challenger)
    promoted = changes.promote(experiment, datetime.now(UTC), winner.name)
    events = events_of(experiment, "promoted", verdict.reason, watched.decision.numbers, (winner,))
    apply_verdicts(parts, watched, promoted, [verdict], experiment.challengers, events)
    log.info("%s is now the champion", winner.model_version)


def _end_losers(parts: Parts, watched: Watched) -> None:
    """Send the losers' users to the champion, then remove the losers."""
    experiment, decision = watched.experiment, watched.decision
    losers = [experiment.variant(each.challenger) for each in decision.losers]
    after = changes.end(experiment, [each.name for each in losers], datetime.now(UTC))
    if after.state == "stopped":
        what: Happening = "kept" if decision.action == "keep" else "rolled back"
        events = events_of(experiment, what, decision.reason, decision.numbers)
    else:
        events = [
            event
            for verdict, loser in zip(decision.losers, losers, strict=True)
            for event in events_of(experiment, "ended", verdict.reason, decision.numbers, (loser,))
        ]
    apply_verdicts(parts, watched, after, decision.losers, losers, events)
    if after.state == "stopped":
        log.info("%s has ended; all users get %s", experiment.name, experiment.champion.model_version)
    else:
        for loser in losers:
            log.info("%s has left %s", loser.model_version, experiment.name)


def _version(experiment: Experiment, verdict: Verdict) -> str:
    return experiment.variant(verdict.challenger).model_version
