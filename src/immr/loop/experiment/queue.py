"""The queue: versions that passed the gate during a test, and start as challenger when it has ended."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from immr.errors import ExperimentError, ExperimentRunningError, ImmrError
from immr.experiment.changes import check_weight
from immr.experiment.definition import Experiment
from immr.experiment.waiting import Queue, WaitingVersion, load_queue, save_queue
from immr.loop.deploy import deploy_locked
from immr.loop.experiment.running import exclusive, running_test
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

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return asdict(self.version) | {"since": self.version.since.isoformat(), "reason": self.reason}


def deploy_or_wait(
    parts: Parts, version: ModelVersion, bento: str = "", share: float = 0.5, force: bool = False
) -> Deployment | Waiting:
    """Deploy a version; if that would disturb the running test, put it into the queue instead.

    A version that is deployed takes the place of all that waited: they were trained on older data.

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
    check_weight(share)
    bento = bento or tag_of(version.id)
    with exclusive(parts):
        queue = load_queue(parts.settings.queue_file)
        try:
            deployment = deploy_locked(parts, version, bento, force)
        except ExperimentRunningError as running:
            entry = WaitingVersion(version.id, bento, share, datetime.now(UTC), force)
            save_queue(queue.add(entry), parts.settings.queue_file)
            return Waiting(entry, str(running))
        if deployment.role == "challenger" and running_test(parts) is None and queue.versions:
            save_queue(Queue(), parts.settings.queue_file)
        return deployment


def start_or_wait(parts: Parts, share: float) -> Experiment | Waiting:
    """Start a test of the deployed challenger; if it does not answer yet, it starts once it does.

    `immr serve` and `immr experiment decide` start what waits.

    Raises:
        ExperimentError: A test is running, nothing is deployed, or another process is changing the experiment.
    """
    with exclusive(parts):
        deployed = {each.role: each for each in parts.deployer.current()}
        challenger = deployed.get("challenger")
        if challenger is not None and running_test(parts) is None:
            for deployment in deployed.values():
                if reason := answers(parts, deployment):
                    entry = WaitingVersion(challenger.version_id, challenger.bento, share, datetime.now(UTC))
                    save_queue(load_queue(parts.settings.queue_file).add(entry), parts.settings.queue_file)
                    return Waiting(entry, f"{deployment.version_id} does not answer yet: {reason}")
        return start_locked(parts, share)


def waiting(parts: Parts) -> list[Waiting]:
    """What is in the queue, next first, each with what it waits for."""
    queue = load_queue(parts.settings.queue_file)
    found = []
    for place, version in enumerate(reversed(queue.versions)):
        if place:
            reason = f"{queue.versions[-1].model_version} is newer and starts in its place"
        else:
            reason = queue.held or version.problem or _what_it_waits_for(parts)
        found.append(Waiting(version, reason))
    return found


def _what_it_waits_for(parts: Parts) -> str:
    running = running_test(parts)
    return f"test {running.name} to end" if running else "its first answer at its address"


def advance(parts: Parts) -> Experiment | None:
    """Start the newest waiting version, if no test is running; safe to call at any time.

    Returns:
        The test, once it has started; None while nothing waits, or while the version does not answer yet.

    Raises:
        ExperimentError: Another process is changing the experiment, or a file of it is damaged.
    """
    if not load_queue(parts.settings.queue_file).versions:
        return None
    with exclusive(parts):
        return advance_locked(parts)


def advance_locked(parts: Parts) -> Experiment | None:
    """`advance` for callers that hold the experiment's lock. A failure is noted in the queue."""
    file = parts.settings.queue_file
    queue = load_queue(file)
    if (version := queue.next) is None or running_test(parts) is not None:
        return None
    try:
        if _is_starting(parts, version):
            _note_problem(parts, version, "")
            return None
        champion = parts.registry.role("champion")
        if champion is not None and champion.id == version.model_version:
            log.info("%s leaves the queue: it is the champion", champion.id)
            save_queue(queue.without(champion.id), file)
            return advance_locked(parts)
        deploy_locked(parts, parts.registry.get(version.model_version), version.bento, version.force)
        if _is_starting(parts, version):
            _note_problem(parts, version, "")
            return None
        begun = start_locked(parts, version.share)
    except (ImmrError, OSError) as error:
        _note_problem(parts, version, str(error))
        return None
    for older in queue.versions[:-1]:
        log.info("%s leaves the queue: %s is newer", older.model_version, version.model_version)
    save_queue(Queue(), file)
    log.info("test %s has started", begun.name)
    return begun


def _is_starting(parts: Parts, version: WaitingVersion) -> bool:
    """Whether the version is deployed, and it or the champion does not answer yet; asks no registry."""
    deployed = parts.deployer.current()
    wanted = (version.model_version, version.bento, "challenger")
    if not any((each.version_id, each.bento, each.role) == wanted for each in deployed):
        return False
    return any(answers(parts, each) for each in deployed)


def _note_problem(parts: Parts, version: WaitingVersion, problem: str) -> None:
    """Replace the reason why the version could not start; an empty one removes it."""
    if problem == version.problem:
        return
    if problem:
        log.warning("%s cannot start: %s", version.model_version, problem)
    file = parts.settings.queue_file
    save_queue(load_queue(file).add(replace(version, problem=problem)), file)


def resume(parts: Parts) -> None:
    """Let a held queue start its next version again."""
    with exclusive(parts):
        queue = load_queue(parts.settings.queue_file)
        save_queue(replace(queue, held=""), parts.settings.queue_file)


def drop(parts: Parts, model_version: str) -> None:
    """Take a version off the queue.

    Raises:
        ExperimentError: It is not in the queue.
    """
    with exclusive(parts):
        queue = load_queue(parts.settings.queue_file)
        kept = queue.without(model_version)
        if kept == queue:
            known = ", ".join(each.model_version for each in queue.versions) or "nothing"
            raise ExperimentError(
                f"{model_version} is not in the queue, where {known} waits: name one of them"
            )
        save_queue(kept, parts.settings.queue_file)
