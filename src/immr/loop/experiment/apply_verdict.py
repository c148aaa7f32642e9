"""Apply a verdict: save the experiment it leads to, then update promotion log, roles and deployments.

The experiment file changes first, so that shoppers leave a bad version even if the registry is down. What has to
follow is in a file before that; after a crash or an error, `complete_verdicts` completes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from immr.alerts.alert import Alert
from immr.errors import ExperimentError
from immr.experiment.definition import CHAMPION, Experiment
from immr.experiment.file import load
from immr.experiment.history import TestEvent, from_row, has_all, to_row
from immr.loop.experiment.reports import last_report
from immr.loop.experiment.save_change import save_change
from immr.registry.reports import ab_test_link
from immr.storage.atomic import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from immr.experiment.definition import Variant
    from immr.loop.watch import Watched
    from immr.readout.decision import Verdict
    from immr.types import Role
    from immr.wiring import Parts

_DONE = {"promote": "is the new champion", "keep": "has lost its test", "roll back": "was rolled back"}


def apply_verdicts(
    parts: Parts,
    watched: Watched,
    after: Experiment,
    verdicts: Sequence[Verdict],
    leaving: Sequence[Variant],
    events: Sequence[TestEvent],
) -> None:
    """Save the experiment that verdicts lead to, then record them and change roles and deployments.

    Args:
        parts: The process's adapters.
        watched: The experiment before, and its readout.
        after: The experiment; the test is over if no challenger remains in it.
        verdicts: On challengers, as alerts and the promotion log report them.
        leaving: The challengers to remove. One that is promoted serves as champion first.
        events: The lines of the history.
    """
    before = watched.experiment
    version_of = {each.name: each.model_version for each in before.challengers}
    is_over = after.state == "stopped" or not after.remaining
    content = {
        "test": before.name,
        "salt": after.salt,
        "champion": before.champion.model_version,
        "events": [to_row(each) for each in events],
        "verdicts": [asdict(each) | {"version": version_of[each.challenger]} for each in verdicts],
        "numbers": dict(watched.decision.numbers),
        "leaving": [(each.name, each.model_version) for each in leaving],
    }
    page = last_report(parts, watched, events) if is_over else ""
    alerts = [alert_of(parts, before, each, applied=True) for each in verdicts]
    write_atomically(_marker(parts), json.dumps(content))
    save_change(parts, after, events, page, alerts)
    complete_verdicts(parts)


def complete_verdicts(parts: Parts) -> None:
    """Make promotion log, roles and deployments follow the last verdicts; does nothing if they do already.

    Raises:
        ImmrError: Registry or deployment could not be changed; the next call tries again.
    """
    marker = _marker(parts)
    if not marker.is_file():
        return
    left = json.loads(marker.read_text(encoding="utf-8"))
    events = [from_row(row) for row in left["events"]]
    if has_all(parts.settings.history_file, events):  # else the process ended before the experiment was saved
        for verdict in left["verdicts"]:
            _record(parts, left, verdict)
        if _salt(parts) == left["salt"]:  # else someone has rolled back since
            for verdict in left["verdicts"]:
                if verdict["action"] == "promote":
                    _make_champion(parts, verdict["version"], verdict["reason"], left["test"])
            for role, version in sorted(left["leaving"]):
                _take_off(parts, role, version)
    marker.unlink()


def has_incomplete_verdicts(parts: Parts) -> bool:
    """Whether a verdict is not carried out everywhere yet."""
    return _marker(parts).is_file()


def alert_of(parts: Parts, experiment: Experiment, verdict: Verdict, applied: bool) -> Alert:
    """The alert about a verdict."""
    version = experiment.variant(verdict.challenger).model_version
    title = f"{version} {_DONE[verdict.action]}" if applied else f"{version}: decided to {verdict.action}"
    todo = "" if applied else " `immr experiment decide --apply` carries it out."
    return Alert(title, f"{verdict.reason}{todo} Test {experiment.name}.", parts.settings.page_link)


def records(parts: Parts, test: str, version: str, action: str) -> list[dict[str, Any]]:
    """The entries of the promotion log with this verdict on this challenger."""
    wanted = (test, version, action)
    entries = parts.registry.decisions()
    return [each for each in entries if wanted == (each["experiment"], each["challenger"], each["action"])]


def _record(parts: Parts, left: Mapping[str, Any], verdict: Mapping[str, str]) -> None:
    registry, version = parts.registry, verdict["version"]
    logged = records(parts, left["test"], version, verdict["action"])
    if any(each.get("applied", True) for each in logged):
        return
    registry.record_decision(
        action=verdict["action"],
        reason=verdict["reason"],
        numbers=left["numbers"],
        champion=registry.get(left["champion"]),
        challenger=registry.get(version),
        experiment=left["test"],
        applied=True,
    )


def _make_champion(parts: Parts, version_id: str, reason: str, test: str) -> None:
    version = parts.registry.get(version_id)
    bentos = [each.bento for each in parts.deployer.current() if each.version_id == version_id]
    if bentos:
        parts.deployer.apply(version, bentos[0], CHAMPION)
    parts.registry.set_role(CHAMPION, version, reason, ab_test_link(parts.settings, test))


def _take_off(parts: Parts, role: Role, version: str) -> None:
    """Remove role and deployment if this version still has them; after a crash, another one may."""
    if (holder := parts.registry.role(role)) is not None and holder.id == version:
        parts.registry.clear_role(role)
    if any((each.role, each.version_id) == (role, version) for each in parts.deployer.current()):
        parts.deployer.remove(role)


def _salt(parts: Parts) -> str:
    """The current experiment's; empty without one."""
    try:
        return load(parts.settings.experiment_file).salt
    except ExperimentError:
        return ""


def _marker(parts: Parts) -> Path:
    """A file with verdicts that are being carried out; deleted once they are."""
    return parts.settings.experiment_file.with_name("following-up")
