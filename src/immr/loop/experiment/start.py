"""Start: compare the deployed challengers with the champion, or let them answer in shadow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from immr.deploy.readiness import not_ready_because
from immr.errors import ExperimentError, ExperimentRunningError
from immr.experiment import changes
from immr.experiment.definition import CHAMPION, Experiment, Kind
from immr.experiment.file import load
from immr.experiment.queue import load_queue, save_queue
from immr.loop.experiment.plan import planned_users
from immr.loop.experiment.recovery import completed
from immr.loop.experiment.running_test import running_test
from immr.loop.experiment.save_change import events_of, save_change
from immr.types import in_a_sentence

if TYPE_CHECKING:
    from immr.deploy.deployer import Deployment
    from immr.types import ModelVersion, Role
    from immr.wiring import Parts


def start(
    parts: Parts,
    share: float | None = None,
    kind: Kind = "ab",
    ramp: Sequence[float] = (),
    ramp_every_s: int | None = None,
    holdout: float | None = None,
    revision: str = "",
    min_days: float | None = None,
) -> Experiment:
    """Compare the registry's challengers with its champion; all must be deployed and answer now.

    The test begins once the challengers have answered, so fallbacks from before do not count against them. Without
    a challenger there is no test: the champion serves all users.

    Args:
        parts: The process's adapters.
        share: Each challenger's share of the users; by default all variants have the same.
        kind: "ab": these users get the challenger's results. "interleave": they get both versions' items in one
            list of results.
        ramp: Each challenger's next shares; `decide` moves on to them while guardrails hold.
        ramp_every_s: How long each share lasts.
        holdout: Share of all users who get the champion in this and every later test; None leaves it as it is.
        revision: The experiment that the new one follows; empty for any.
        min_days: Days that the test lasts before `decide` promotes a challenger or keeps the champion; by default
            those of the settings.

    Raises:
        ExperimentError: A test is already running, a version is not deployed or does not answer, there is no
            challenger to give `share`, `ramp` or `kind` to, or the experiment has another revision.
    """
    with completed(parts, revision):
        if share is not None or ramp or kind == "interleave":
            _require_challenger(parts)
        return start_locked(parts, share, kind, ramp, ramp_every_s, holdout, min_days)


def start_locked(
    parts: Parts,
    share: float | None = None,
    kind: Kind = "ab",
    ramp: Sequence[float] = (),
    ramp_every_s: int | None = None,
    holdout: float | None = None,
    min_days: float | None = None,
) -> Experiment:
    """`start` for callers that hold the experiment's lock."""
    _refuse_second_test(parts)
    if share is not None:
        changes.check_share(share)
    champion, challengers = _deployed(parts)
    if not challengers:
        return _save_begun(parts, changes.begin(champion, {}, 0.0, datetime.now(UTC)), holdout)
    share = share or 1 / (len(challengers) + 1)
    changes.check_share(share, len(challengers))
    _refuse_silent(parts, "champion", *champion)
    for role, challenger in challengers.items():
        _refuse_silent(parts, role, *challenger)
    planned = planned_users(parts, champion, share, len(challengers)) if kind == "ab" else None
    now = datetime.now(UTC)
    least = parts.settings.min_test_days if min_days is None else min_days
    begun = changes.begin(champion, challengers, share, now, kind, planned, ramp, ramp_every_s, least)
    begun = _save_begun(parts, begun, holdout)
    queue = without = load_queue(parts.settings.queue_file)
    for version, _ in challengers.values():
        without = without.without(version)
    if without != queue:
        save_queue(without, parts.settings.queue_file)
    return begun


def shadow(parts: Parts) -> Experiment:
    """Send the champion's searches to the registry's only challenger too, without showing its results.

    Raises:
        ExperimentError: A test is already running, or a version is not deployed or does not answer.
    """
    with completed(parts):
        _refuse_second_test(parts)
        champion, challengers = _deployed(parts)
        if len(challengers) != 1:
            raise ExperimentError(
                f"{len(challengers)} challengers are deployed, and a shadow needs one: deploy one, or set "
                "IMMR_CHALLENGERS=1 and deploy it again"
            )
        [(role, challenger)] = challengers.items()
        _refuse_silent(parts, role, *challenger)
        return _save_begun(parts, changes.shadow(champion, challenger, datetime.now(UTC)))


def answers(parts: Parts, deployment: Deployment) -> str | None:
    """Why a deployed version does not answer searches at its address; None if it does.

    A version is ready once its index is complete, see `/health/ready`.
    """
    return _silent_because(parts, deployment.version_id, deployment.url)


def _silent_because(parts: Parts, version: str, url: str) -> str | None:
    home = parts.settings.home_id if parts.settings.deploys_here else ""
    return not_ready_because(url, version, home_id=home)


def _refuse_silent(parts: Parts, role: str, version: str, url: str) -> None:
    """A version that does not answer makes every one of its searches a fallback, and is rolled back for it."""
    if (reason := _silent_because(parts, version, url)) is None:
        return
    remedy = (
        "start `immr serve` and wait until it reports this version"
        if parts.settings.deploys_here
        else "wait until it is ready, or read its log"
    )
    raise ExperimentError(f"{in_a_sentence(role)} {version} does not answer at {url} ({reason}): {remedy}")


def _deployed(parts: Parts) -> tuple[tuple[str, str], dict[Role, tuple[str, str]]]:
    """Model version and URL of the champion, and of the challengers by role."""
    deployments = {each.role: each for each in parts.deployer.current()}
    serving = {
        role: _serving(role, version, deployments.get(role))
        for role, version in parts.registry.roles().items()
    }
    champion = serving.pop(CHAMPION, None)
    if champion is None:
        raise ExperimentError("there is no champion to start with: train, package and deploy a version first")
    return champion, serving


def _require_challenger(parts: Parts) -> None:
    roles = parts.registry.roles()
    if CHAMPION in roles and len(roles) == 1:
        raise ExperimentError(
            f"there is nothing to compare {roles[CHAMPION].id} with: deploy another version with `immr deploy "
            "--model VERSION`, or a copy of it with `immr experiment aa`, then start the test"
        )


def _serving(role: Role, version: ModelVersion, deployment: Deployment | None) -> tuple[str, str]:
    """Model version and URL of a role."""
    if deployment is None or deployment.version_id != version.id:
        deployed = deployment.version_id if deployment else "nothing"
        raise ExperimentError(
            f"{in_a_sentence(role)} is {version.id}, but {deployed} is deployed as {role}: "
            f"run `immr deploy --model {version.id}`"
        )
    return version.id, deployment.url


def _save_begun(parts: Parts, begun: Experiment, holdout: float | None = None) -> Experiment:
    """Keep the holdout, and the rollback target as long as the champion is the version that replaced it."""
    if parts.settings.experiment_file.is_file():
        before = load(parts.settings.experiment_file)
        if before.champion.model_version == begun.champion.model_version:
            begun = replace(begun, previous=before.previous)
        begun = replace(begun, holdout=before.holdout)
    if holdout is not None:
        alone = replace(begun, state="stopped")  # no user has a variant of this test yet
        begun = replace(begun, holdout=changes.hold_out(alone, holdout, datetime.now(UTC)).holdout)
    save_change(parts, begun, events_of(begun, "started"))
    return begun


def _refuse_second_test(parts: Parts) -> None:
    if not parts.settings.experiment_file.is_file():
        return
    current = load(parts.settings.experiment_file)
    if running_test(parts):
        raise ExperimentRunningError(
            f"test {current.name} is already running: ramp it, or run `immr experiment stop` first"
        )
