"""Status: which versions there are, what serves where, which test runs, and what waits. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from immr.deploy.deployer import Deployment
from immr.errors import ImmrError
from immr.experiment.definition import Experiment
from immr.experiment.file import load
from immr.experiment.revision import revision_of
from immr.loop.evaluate import GATE_PASSED
from immr.loop.experiment.aa import COPY_OF
from immr.loop.experiment.queue import Waiting, waiting
from immr.loop.experiment.start import answers
from immr.loop.pipeline_run import Outcome, PipelineRun
from immr.loop.rank import RANKER
from immr.packaging import bento
from immr.storage.file_ages import oldest_first

if TYPE_CHECKING:
    from immr.settings import Settings
    from immr.types import ModelVersion
    from immr.wiring import Parts

T = TypeVar("T")


@dataclass(frozen=True)
class Model:
    """A registered version, and what has been done with it: gate, Bento, collection, roles."""

    version: str
    roles: tuple[str, ...]
    recipe: str
    registered: datetime
    gate: str  # the gate's sentence; empty without an evaluation
    gate_passed: bool | None  # None without an evaluation
    packaged: bool  # whether its Bento is below IMMR_HOME
    indexed: bool | None  # None while the index does not answer
    ranker: str  # what its ranker was measured to gain; empty if the hand-tuned weights order its hits
    copy_of: str  # the version that it copies for an A/A test; empty for others
    run_id: str
    training_set: str  # its manifest hash


@dataclass(frozen=True)
class Serving:
    """A deployed version; `problem` is why it does not answer, or empty."""

    role: str
    version: str
    url: str
    problem: str
    ranker: str  # see Model
    copy_of: str  # see Model


@dataclass(frozen=True)
class Run:
    """The newest pipeline run."""

    run: str
    outcome: Outcome | None  # None while it runs, and for a run that was killed
    step: str  # the one that failed, refused the version or deployed it, else the last one
    state: str  # of this step: "done", "failed", or "running": then it runs, or was killed
    finding: str  # of this step; its error, if it failed
    changed: datetime


@dataclass(frozen=True)
class Status:
    """Everything that `immr status` prints; `problems` name what did not answer."""

    home: str
    roles: Mapping[str, str]  # version by role
    serving: tuple[Serving, ...]
    experiment: Experiment | None
    rollback: Serving | None  # what `immr experiment rollback` returns to; None if nothing was promoted
    waiting: tuple[Waiting, ...]
    last_run: Run | None
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, apart from times."""
        values = asdict(self) | {"waiting": [each.to_json() for each in self.waiting]}
        if self.experiment is not None:
            values["experiment"]["revision"] = revision_of(self.experiment)
        return values


def models(parts: Parts) -> list[Model]:
    """All registered versions, newest first.

    Raises:
        RegistryError: MLflow does not answer.
    """
    registry = parts.registry
    roles = _roles(parts)
    indexed: set[str] | None
    try:
        indexed = set(parts.index.versions())
    except ImmrError:
        indexed = None
    return [_model(parts, version, roles, indexed) for version in reversed(registry.versions())]


def _model(parts: Parts, version: ModelVersion, roles: Mapping[str, str], indexed: set[str] | None) -> Model:
    tags = parts.registry.tags(version)
    passed = tags.get(GATE_PASSED)
    return Model(
        version=version.id,
        roles=tuple(role for role, holder in roles.items() if holder == version.id),
        recipe=version.recipe,
        registered=parts.registry.created(version),
        gate=tags.get("gate", ""),
        gate_passed=None if passed is None else passed == "yes",
        packaged=bento.is_built(parts.settings.bento_home, bento.tag_of(version.id)),
        indexed=None if indexed is None else version.id in indexed,
        ranker=tags.get(RANKER, ""),
        copy_of=tags.get(COPY_OF, ""),
        run_id=version.run_id,
        training_set=version.manifest_hash,
    )


def status(parts: Parts) -> Status:
    """The state of this home; a part that does not answer becomes a problem, not an error."""
    problems: dict[str, None] = {}  # each once: a damaged experiment file also hides what waits

    def read(part: Callable[[], T], otherwise: T) -> T:
        try:
            return part()
        except ImmrError as error:
            problems[str(error)] = None
            return otherwise

    file = parts.settings.experiment_file
    roles: Mapping[str, str] = read(lambda: _roles(parts), {})
    deployments: Sequence[Deployment] = read(parts.deployer.current, ())
    experiment = read(lambda: load(file) if file.is_file() else None, None)
    queue: Sequence[Waiting] = read(lambda: waiting(parts), ())
    return Status(
        home=str(parts.settings.home),
        roles=roles,
        serving=tuple(_serving(parts, each) for each in deployments),
        experiment=experiment,
        rollback=_rollback(parts, experiment),
        waiting=tuple(queue),
        last_run=_last_run(parts.settings),
        problems=tuple(problems),
    )


def _roles(parts: Parts) -> dict[str, str]:
    return {role: version.id for role, version in parts.registry.roles().items()}


def _serving(parts: Parts, deployed: Deployment) -> Serving:
    try:
        tags = parts.registry.tags(parts.registry.get(deployed.version_id))
    except ImmrError:  # among the problems already
        tags = {}
    return Serving(
        role=deployed.role,
        version=deployed.version_id,
        url=deployed.url,
        problem=answers(parts, deployed) or "",
        ranker=tags.get(RANKER, ""),
        copy_of=tags.get(COPY_OF, ""),
    )


def _rollback(parts: Parts, experiment: Experiment | None) -> Serving | None:
    """The previous champion, which keeps serving, as the champion that a rollback makes it."""
    if experiment is None or experiment.previous is None:
        return None
    version, url = experiment.previous.model_version, experiment.previous.url
    return _serving(parts, Deployment("champion", version, bento.tag_of(version), url))


def _last_run(settings: Settings) -> Run | None:
    runs = oldest_first(path for path in (settings.home / "runs").glob("*/") if any(path.glob("*.json")))
    if not runs:
        return None
    newest = runs[-1]
    run = PipelineRun(newest)
    records = run.records()
    telling = [each for each in records if each.state == "failed" or each.refused]
    telling += [each for each in records if each.step == "start-test" and each.state == "done"]
    last = next(iter(telling), records[-1])
    changed = datetime.fromtimestamp(newest.stat().st_mtime, UTC)
    return Run(newest.name, run.ended(), last.step, last.state, last.error or last.finding, changed)
