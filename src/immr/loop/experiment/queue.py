"""The queue: versions that passed the gate during a test, and start as challenger when it has ended."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from immr.errors import ExperimentError, ExperimentRunningError, ImmrError
from immr.experiment.changes import check_share
from immr.experiment.definition import CHAMPION, Experiment
from immr.experiment.queue import Queue, WaitingVersion, load_queue, save_queue
from immr.loop.deploy import deploy_locked, unfit
from immr.loop.experiment.recovery import completed
from immr.loop.experiment.running_test import exclusive, running_test
from immr.loop.experiment.start import answers, start_locked
from immr.packaging.bento import tag_of

if TYPE_CHECKING:
    from immr.deploy.deployer import Deployment
    from immr.types import ModelVersion
    from immr.wiring import Parts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Waiting:
    """A version in the queue, and what it waits for."""

    version: WaitingVersion
    reason: str
    overtakes: tuple[str, ...] = ()  # versions that waited already, and do not start because of this one

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        facts = {"since": self.version.since.isoformat(), "reason": self.reason}
        return asdict(self.version) | facts | {"overtakes": self.overtakes}


@dataclass(frozen=True)
class Deployed:
    """A version that was deployed, and what that replaced."""

    deployment: Deployment
    replaced: str  # the version that had its role; empty if none had
    dropped: tuple[str, ...]  # versions that waited in the queue
    passed_over: tuple[str, ...]  # what is wrong with it, that --force passed over

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        facts = {"replaced": self.replaced, "dropped": self.dropped, "passed_over": self.passed_over}
        return asdict(self.deployment) | facts

    @property
    def losses(self) -> list[str]:
        """In words: `it replaces immr-3`, `immr-4 no longer waits in the queue`."""
        return [
            *([f"it replaces {self.replaced}"] if self.replaced else []),
            *(f"{version} no longer waits in the queue" for version in self.dropped),
            *(f"--force passed over: {problem}" for problem in self.passed_over),
        ]


def deploy_or_wait(
    parts: Parts, version: ModelVersion, bento: str = "", share: float = 0.5, force: bool = False
) -> Deployed | Waiting:
    """Deploy a version; if that would disturb the running test, put it into the queue instead.

    A version that is deployed takes the place of all that waited: they were most likely trained on older data.

    Args:
        parts: The process's adapters.
        version: What to deploy.
        bento: The tag of its Bento; by default the one that `immr package` gives it.
        share: Share of the users that its test will have, if it starts from the queue.
        force: Deploy it even if its gate failed, or its Bento or collection is missing.

    Raises:
        DeployError: The gate stopped the version, its Bento or collection is missing, or it cannot start.
        ExperimentError: Another process is changing the experiment.
    """
    check_share(share)
    bento = bento or tag_of(version.id)
    with completed(parts):
        queue = load_queue(parts.settings.queue_file)
        before = parts.registry.roles()
        passed_over = tuple(unfit(parts, version, bento)) if force else ()
        try:
            deployment = deploy_locked(parts, version, bento, force)
        except ExperimentRunningError as running:
            entry = WaitingVersion(version.id, bento, share, datetime.now(UTC), force)
            queue = queue.add(entry)
            save_queue(queue, parts.settings.queue_file)
            return Waiting(entry, str(running), _overtaken(parts, queue))
        if deployment.role != CHAMPION and running_test(parts) is None and queue.versions:
            save_queue(Queue(), parts.settings.queue_file)
            dropped = tuple(each.model_version for each in queue.versions)
        else:
            dropped = ()
        holder = before.get(deployment.role)
        replaced = holder.id if holder is not None and holder.id != version.id else ""
        return Deployed(deployment, replaced, dropped, passed_over)


def start_or_wait(parts: Parts, share: float) -> Experiment | Waiting:
    """Start a test of the deployed challenger; if it does not answer yet, it starts once it does.

    `immr serve` and `immr experiment decide` start what waits.

    Raises:
        ExperimentError: A test is running, nothing is deployed, or another process is changing the experiment.
    """
    with completed(parts):
        deployed = parts.deployer.current()
        challengers = [each for each in deployed if each.role != CHAMPION]
        if challengers and running_test(parts) is None:
            for deployment in deployed:
                if reason := answers(parts, deployment):
                    entry = _wait(parts, challengers, share)
                    why = reason.removeprefix("no answer: ")
                    return Waiting(entry, f"{deployment.version_id} does not answer yet ({why})")
        return start_locked(parts, _fair(share, len(challengers)))


def _wait(parts: Parts, challengers: Sequence[Deployment], share: float) -> WaitingVersion:
    """Put deployed challengers into the queue; returns the entry of the newest."""
    queue = load_queue(parts.settings.queue_file)
    for each in sorted(challengers, key=lambda each: parts.registry.get(each.version_id).number):
        entry = WaitingVersion(each.version_id, each.bento, share, datetime.now(UTC))
        queue = queue.add(entry)
    save_queue(queue, parts.settings.queue_file)
    return entry


def _fair(share: float, challengers: int) -> float:
    """Each challenger's share; with several challengers, at most an equal share for every variant."""
    return share if challengers < 2 else min(share, 1 / (challengers + 1))


def waiting(parts: Parts) -> list[Waiting]:
    """What is in the queue, next first, each with what it waits for."""
    queue = load_queue(parts.settings.queue_file)
    found = []
    for place, version in enumerate(reversed(queue.versions)):
        if place >= parts.settings.challengers:
            reason = f"{queue.versions[-1].model_version} was deployed later and starts in its place"
        else:
            reason = queue.held or version.problem or _what_it_waits_for(parts)
        found.append(Waiting(version, reason))
    return found


def _overtaken(parts: Parts, queue: Queue) -> tuple[str, ...]:
    """The waiting versions that leave the queue when the next ones start."""
    chosen = queue.newest(parts.settings.challengers)
    return tuple(each.model_version for each in queue.versions if each not in chosen)


def _what_it_waits_for(parts: Parts) -> str:
    running = running_test(parts)
    return f"test {running.name} to end" if running else "its first answer at its address"


def advance(parts: Parts) -> Experiment | None:
    """Start a test of the versions that were deployed last, if none is running; safe to call at any time.

    It takes at most `IMMR_CHALLENGERS` of them and starts once they all answer. A version that cannot start
    stays in the queue with the reason; older ones leave it.

    Returns:
        The test, once it has started; None while nothing waits, or while a version does not answer yet.

    Raises:
        ExperimentError: Another process is changing the experiment, or a file of it is damaged.
    """
    if not load_queue(parts.settings.queue_file).versions:
        return None
    with completed(parts):
        return advance_locked(parts)


def advance_locked(parts: Parts) -> Experiment | None:
    """`advance` for callers that hold the experiment's lock. A failure is noted in the queue."""
    queue = load_queue(parts.settings.queue_file)
    if (running := running_test(parts)) is not None:
        left = queue
        for each in running.remaining:  # a start that was killed; else it would be tested again
            left = left.without(each.model_version)
        if left != queue:
            save_queue(left, parts.settings.queue_file)
        return None
    if queue.held or not queue.versions:
        return None
    chosen = queue.newest(parts.settings.challengers)
    states = [_prepare(parts, version) for version in chosen]
    if "champion" in states:
        return advance_locked(parts)
    ready = [version for version, state in zip(chosen, states, strict=True) if state == "ready"]
    if "starting" in states or not ready:
        return None
    try:
        _remove_others(parts, {each.model_version for each in ready})
        begun = start_locked(parts, _fair(min(each.share for each in ready), len(ready)))
    except (ImmrError, OSError) as error:
        _note_problem(parts, ready[-1], str(error))
        return None
    _drop_older(parts, ready[-1], failed={each.model_version for each in chosen if each not in ready})
    log.info("test %s has started", begun.name)
    return begun


def _drop_older(parts: Parts, newest: WaitingVersion, failed: Collection[str]) -> None:
    """Once a test has started, only versions that could not start with it still wait."""
    queue = load_queue(parts.settings.queue_file)
    for older in queue.versions:
        if older.model_version not in failed:
            log.info("%s leaves the queue: %s was deployed later", older.model_version, newest.model_version)
            queue = queue.without(older.model_version)
    save_queue(queue, parts.settings.queue_file)


def _prepare(parts: Parts, version: WaitingVersion) -> Literal["champion", "failed", "ready", "starting"]:
    """Deploy a waiting version if it is not; the champion leaves the queue."""
    file = parts.settings.queue_file
    try:
        if not _is_starting(parts, version):
            champion = parts.registry.role("champion")
            if champion is not None and champion.id == version.model_version:
                log.info("%s leaves the queue: it is the champion", champion.id)
                save_queue(load_queue(file).without(champion.id), file)
                return "champion"
            deploy_locked(parts, parts.registry.get(version.model_version), version.bento, version.force)
            if not _is_starting(parts, version):
                return "ready"
    except (ImmrError, OSError) as error:
        _note_problem(parts, version, str(error))
        return "failed"
    _note_problem(parts, version, "")
    return "starting"


def _is_starting(parts: Parts, version: WaitingVersion) -> bool:
    """Whether the version is deployed, and it or the champion does not answer yet. Does not call the registry."""
    deployed = parts.deployer.current()
    wanted = (version.model_version, version.bento)
    ours = [each for each in deployed if (each.version_id, each.bento) == wanted and each.role != CHAMPION]
    champions = [each for each in deployed if each.role == CHAMPION]
    return bool(ours) and any(answers(parts, each) for each in (*champions, *ours))


def _remove_others(parts: Parts, wanted: Collection[str]) -> None:
    """Remove challengers of an earlier test that was stopped by hand."""
    for role, version in parts.registry.roles().items():
        if role != CHAMPION and version.id not in wanted:
            parts.registry.clear_role(role)
    for deployment in parts.deployer.current():
        if deployment.role != CHAMPION and deployment.version_id not in wanted:
            parts.deployer.remove(deployment.role)


def _note_problem(parts: Parts, version: WaitingVersion, problem: str) -> None:
    """Replace the reason why the version could not start; an empty one removes it."""
    if problem == version.problem:
        return
    if problem:
        log.warning("%s cannot start: %s", version.model_version, problem)
    file = parts.settings.queue_file
    save_queue(load_queue(file).put(replace(version, problem=problem)), file)


def resume(parts: Parts) -> bool:
    """Let a held queue start its next version again; returns whether it was held."""
    with exclusive(parts):
        queue = load_queue(parts.settings.queue_file)
        if queue.held:
            save_queue(replace(queue, held=""), parts.settings.queue_file)
        return bool(queue.held)


def drop(parts: Parts, model_version: str) -> None:
    """Take a version off the queue.

    Raises:
        ExperimentError: The version is not in the queue.
    """
    with exclusive(parts):
        queue = load_queue(parts.settings.queue_file)
        kept = queue.without(model_version)
        if kept == queue:
            known = ", ".join(each.model_version for each in queue.versions)
            waits = f"choose from {known}" if known else "nothing waits"
            raise ExperimentError(f"{model_version} is not in the queue: {waits}")
        save_queue(kept, parts.settings.queue_file)
